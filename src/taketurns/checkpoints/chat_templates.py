"""A chat template at work: a program that came with a model, which gets a limited time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

SECONDS = 5.0  # for one conversation; ordinary templates take less than a thousandth of it

_TEMPLATE = "<template>"  # how jinja calls what it makes of a template


def render(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], *, begin: bool = False, **options: Any
) -> str:
    """What the template of a tokenizer makes of messages; `begin` adds what comes before an answer.
    Raises jinja2's TemplateError, and ValueError where it takes too long."""
    try:
        with _limited(SECONDS):
            text = tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=begin, **options
            )
    except TimeoutError as error:
        raise ValueError(f"it was not done within {SECONDS:g} s") from error
    return str(text)


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
