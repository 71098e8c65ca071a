"""A chat template at work: a program that came with a model, which gets a limited time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from taketurns.errors import one_line
from taketurns.types import Message

SECONDS = 5.0  # for one conversation; ordinary templates take less than a thousandth of it

_TEMPLATE = "<template>"  # how jinja calls what it makes of a template


class TemplateRefusal(ValueError):
    """A chat template refuses a conversation, or fails at it; the text goes on from its name."""


def render_template(tokenizer: Any, turns: Sequence[Message], *, begin: bool) -> str:
    """A conversation in a tokenizer's chat template, up to the assistant's turn where it is to
    `begin`. Raises TemplateRefusal: a template is a program, and may raise anything."""
    from jinja2.exceptions import TemplateError

    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        with _limited(SECONDS):
            return str(
                tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=begin)
            )
    except TimeoutError as error:
        raise TemplateRefusal(
            f"did not finish within {SECONDS:g} s; correct the template, or give the model another "
            "one with `template` in the team file"
        ) from error
    except (TemplateError, ValueError) as error:
        raise TemplateRefusal(f"refuses the conversation: {one_line(error)}") from error
    except Exception as error:
        raise TemplateRefusal(
            f"fails on the conversation ({type(error).__name__}: {one_line(error)}); correct the "
            "template, or give the model another one with `template` in the team file"
        ) from error


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a template that takes longer. A thread cannot be stopped from outside,
    so the template's own lines look at the clock; what one of them calls in C is not stopped."""
    import jinja2

    library = str(Path(jinja2.__file__).parent)
    until = monotonic() + seconds

    def line(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if monotonic() > until:
            raise TimeoutError
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        return line if name == _TEMPLATE or name.startswith(library) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
