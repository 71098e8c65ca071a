"""Rendering chat templates: programs that come with a model, and get a limited time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from taketurns.errors import one_line
from taketurns.types import Message

SECONDS = 5.0  # for one conversation; ordinary templates take less than a thousandth of it

_TEMPLATE = "<template>"  # the file name that jinja gives to a compiled template


class TemplateRefusal(ValueError):
    """A chat template refuses a conversation or fails on it; the message follows the words "the
    chat template"."""


def template_messages(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns as chat templates take them."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def render_template(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    begin: bool,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """A conversation in a tokenizer's chat template; with `begin`, it ends where the assistant's
    turn begins. `variables` are more names that the template can use. Raises TemplateRefusal for
    anything that the template raises."""
    from jinja2.exceptions import TemplateError

    try:
        with _limited(SECONDS):
            return str(
                tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=begin, **(variables or {})
                )
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
    so a trace function checks the clock at every line of the template; a call into C is not
    interrupted."""
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
