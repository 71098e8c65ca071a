"""The exception tree: one owner for each kind of failure.

TakeTurnsError
  UsageError         a person's mistake: one sentence, exit code 2
    ConfigError      in a team file
    PromptError      a prompt that cannot be rendered or used
      LengthError    one that does not fit the model's context
    DataError        in an input or output file
  EngineError        a model or a server failed; the trace so far is kept
    CapacityError    no memory for another answer
    UnavailableError no server of a model can be reached; another candidate may go on
    NotANumberError  a model gave NaN or infinity for a number; another candidate may go on
    FormatError      a model has no token that the answer's format allows; another may go on
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 1000  # characters of a library's error that a reader of one line will bear


class LostTextWarning(UserWarning):
    """A file holds answers in which characters may be missing."""


class TakeTurnsError(Exception):
    """Anything this package raises on purpose."""


class UsageError(TakeTurnsError):
    """A mistake of the caller, said in one sentence that names the cure."""

    @classmethod
    def unless(cls, holds: bool, sentence: str) -> None:
        """Raise this error with the sentence unless the condition holds."""
        if not holds:
            raise cls(sentence)


class ConfigError(UsageError):
    """A team file, or a setting, that cannot be used."""


class PromptError(UsageError):
    """A prompt that cannot be rendered or used: `what` is wrong, with the query of that id."""

    def __init__(self, what: str, query: str | None = None) -> None:
        super().__init__(what if query is None else f"query {query!r}: {what}")
        self.what = what


class LengthError(PromptError):
    """A prompt that does not fit a model's context."""


class DataError(UsageError):
    """An input or output file that cannot be used."""


class EngineError(TakeTurnsError):
    """A model or a server failed while an answer was being written."""


class CapacityError(EngineError):
    """The engine has no memory left for another answer."""


class UnavailableError(EngineError):
    """No server of a model answers as it should. What was written stands, and another candidate
    may go on."""


class NotANumberError(EngineError):
    """A model, or what reads one, gave NaN or infinity where a number belongs. What was written
    stands. Where a candidate did while it wrote, another may go on."""


class FormatError(EngineError):
    """A model's vocabulary has no token that continues the answer in its format. What was written
    stands, and another candidate may go on."""


def one_line(error: BaseException) -> str:
    """All that an error says, in one line, or what it is where it says nothing."""
    text = " ".join(str(error).split())
    if not text:
        return repr(error)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


@contextmanager
def concerning(name: str) -> Iterator[None]:
    """Begin a ConfigError with the name of the model that it is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
