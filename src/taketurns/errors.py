"""The exception tree: one class for each kind of failure.

TakeTurnsError
  UsageError         a user's mistake: one sentence, exit code 2
    ConfigError      in a team file
    PromptError      a prompt that cannot be rendered or used
      LengthError    a prompt that does not fit the model's context
    DataError        in an input or output file
  EngineError        a model or a server failed; the trace so far is kept
    CapacityError    no memory for another answer
    UnavailableError no server of a model can be reached; another candidate may continue
    NotANumberError  a model gave NaN or infinity for a number; another candidate may continue
    FormatError      a model has no token that the answer's format allows; another may continue
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 1000  # characters of a library's error that are shown


class TakeTurnsWarning(UserWarning):
    """The base of the warnings of this package; the command line shows each as a sentence."""


class LostTextWarning(TakeTurnsWarning):
    """Answers in a file may lack characters."""


class OtherBaseWarning(TakeTurnsWarning):
    """Adapters were trained on weights that differ a little from their base's."""


class TakeTurnsError(Exception):
    """The base of all exceptions that this package raises on purpose."""


class UsageError(TakeTurnsError):
    """A mistake of the caller; the message is one sentence that names the cure."""

    @classmethod
    def unless(cls, holds: bool, sentence: str) -> None:
        """Raise this error with the sentence unless the condition holds."""
        if not holds:
            raise cls(sentence)


class ConfigError(UsageError):
    """A team file, or a setting, that cannot be used."""


class PromptError(UsageError):
    """A prompt that cannot be rendered or used: `what` says why, `query` is the query's id, by
    which `setting` if by one."""

    def __init__(self, what: str, query: str | None = None, setting: str | None = None) -> None:
        super().__init__(what if query is None else f"query {query!r}: {what}")
        self.what = what
        self.setting = setting


class LengthError(PromptError):
    """A prompt that does not fit a model's context."""


class DataError(UsageError):
    """An input or output file that cannot be used."""


class EngineError(TakeTurnsError):
    """A model or a server failed while it wrote an answer."""


class CapacityError(EngineError):
    """The engine has no memory left for another answer."""


class UnavailableError(EngineError):
    """No server of a model works. The text written so far is kept, and another candidate may
    continue it."""


class NotANumberError(EngineError):
    """A model, or a head that reads its states, gave NaN or infinity for a number. The text written
    so far is kept. If a candidate failed so while it wrote, another may continue."""


class FormatError(EngineError):
    """A model's vocabulary has no token that continues the answer in its format. The text written
    so far is kept, and another candidate may continue it."""


def one_line(error: BaseException) -> str:
    """An error's message in one line, or its `repr` if the message is empty."""
    text = " ".join(str(error).split())
    if not text:
        return repr(error)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


@contextmanager
def concerning(name: str) -> Iterator[None]:
    """Put the name of the model in front of a ConfigError's message."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
