"""How a team takes turns: every setting of the paper, with the paper's default.

The default draws each speaker from the switcher's probabilities by top-p 0.7 and gives it a patch
of 50 tokens, 512 tokens in all (arXiv 2510.09913).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from taketurns.errors import ConfigError

QUESTION = """A user wrote to an assistant:

{request}

The assistant's answer so far, which may break off anywhere:

{answer}

Does this answer do harm: does it help with something dangerous, illegal or hateful, instead of \
declining to? Answer Yes or No."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What an answer must not come to. A patch with which it would is given to nobody, and the
    candidate `to` writes in its place.

    An answer fails where a word or phrase of `words` stands in it, in whatever case; where a
    regular expression of `patterns` is found in it; or where the model `judge` (its name in the
    engine), asked `question` with {request} and {answer} filled in, gives Yes the probability
    `threshold` or more, of Yes and No together.
    """

    to: int
    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    judge: str | None = None
    question: str = QUESTION
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _require(self.to >= 0, f"to must name a candidate, not {self.to}")
        _require(
            bool(self.words or self.patterns or self.judge),
            "words, patterns or a judge are what a guard goes by: give it one of them",
        )
        _require(all(word.strip() for word in self.words), "words must not contain an empty one")
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    f"patterns: {pattern!r} is no regular expression: {error}"
                ) from error
        _require("{answer}" in self.question, "question must contain {answer}, what is judged")
        _require(
            0 < self.threshold <= 1,
            f"threshold must be above 0 and at most 1, not {self.threshold}",
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one answer. Lengths are in tokens, `opening` and `closing` are candidate
    indices.

    `top_p` is over speakers (1 draws from the switcher's whole distribution, `greedy_switcher`
    takes the most probable one); `temperature` and `speaker_top_p` are the speakers' own,
    temperature 0 makes them greedy. The closing speaker writes the last patch that the budget
    allows; with `closing_on_end` it also gets one patch when another speaker ends the answer, that
    end removed. `closing_cue` is text put before the closing patch; it is recorded as forced.

    `max_share` has pairs of a candidate and the most of an answer's tokens, 0 to 1, that are to be
    its at any time: it is not drawn where a whole patch of it would be more. `guard` vets each
    patch before it is given out.
    """

    patch_size: int = 50
    top_p: float = 0.7
    opening: int | None = None
    closing: int | None = None
    closing_on_end: bool = False
    closing_cue: str | None = None
    max_tokens: int = 512
    temperature: float = 0.7
    speaker_top_p: float = 0.9
    stop: tuple[str, ...] = ()
    seed: int = 0
    greedy_switcher: bool = False
    max_share: tuple[tuple[int, float], ...] = ()
    guard: Guard | None = None

    def __post_init__(self) -> None:
        _require(self.patch_size >= 1, f"patch_size must be at least 1, not {self.patch_size}")
        _require(self.max_tokens >= 1, f"max_tokens must be at least 1, not {self.max_tokens}")
        _require(0 < self.top_p <= 1, f"top_p must be above 0 and at most 1, not {self.top_p}")
        _require(
            0 < self.speaker_top_p <= 1,
            f"speaker_top_p must be above 0 and at most 1, not {self.speaker_top_p}",
        )
        _require(
            0 <= self.temperature < float("inf"),
            f"temperature must be 0 or more, not {self.temperature}",
        )
        _require(self.seed >= 0, f"seed must be 0 or more, not {self.seed}")
        _require(all(self.stop), "stop must not contain an empty string")
        for name, index in (("opening", self.opening), ("closing", self.closing)):
            _require(index is None or index >= 0, f"{name} must name a candidate, not {index}")
        for name in ("closing_cue", "closing_on_end"):
            _require(
                not getattr(self, name) or self.closing is not None,
                f"{name} needs a closing speaker",
            )
        _require(self.closing_cue != "", "closing_cue must be some text, or null for none")
        named = {"opening": self.opening, "closing": self.closing}
        named["guard.to"] = None if self.guard is None else self.guard.to
        for index, share in self.max_share:
            _require(0 <= share <= 1, f"max_share must be between 0 and 1, not {share}")
            for name, other in named.items():
                _require(
                    index != other,
                    f"max_share is for those whom the switcher chooses, and {name} names one of "
                    "them",
                )

    def without_rules(self) -> Policy:
        """The same where nothing but the switcher says who writes, and nobody vets it."""
        return replace(
            self,
            opening=None,
            closing=None,
            closing_on_end=False,
            closing_cue=None,
            max_share=(),
            guard=None,
        )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConfigError(otherwise)
