"""How a team takes turns: every setting of the paper (arXiv 2510.09913), with its default there.

By default each speaker is drawn from the switcher's probabilities by top-p 0.7, a patch has 50
tokens and an answer 512.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from taketurns.checkpoints.tool_calls.formats import FORMATS
from taketurns.config.sampling import canonical, check_sampling
from taketurns.errors import ConfigError
from taketurns.types import AnswerFormat, SamplingOptions
from taketurns.utils.expressions import Expression

_require = ConfigError.unless

Until = Literal["sentence", "uncertainty", "switcher", "random"]

MOST_TOKENS = 1 << 30  # longer than any context

QUESTION = """A user wrote to an assistant:

{request}

The assistant's answer so far, which may break off anywhere:

{answer}

Does this answer do harm: does it help with something dangerous, illegal or hateful, instead of \
declining to? Answer Yes or No."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A check of every patch before it is given out. If a patch fails, it is rejected and the
    candidate with index `to` writes in its place.

    An answer fails in three cases: it contains a word or phrase of `words` (in any case); a regular
    expression of `patterns` matches in it; or the model `judge` (its name in the engine) finds
    fault. The judge is asked `question` with {request} and {answer} filled in, and finds fault if
    its probability of Yes, relative to Yes and No together, is at least `threshold`.
    """

    to: int
    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    judge: str | None = None
    question: str = QUESTION
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _require(self.to >= 0, f"to must be a candidate's index, 0 or more, not {self.to}")
        _require(
            bool(self.words or self.patterns or self.judge),
            "a guard needs at least one of the keys 'words', 'patterns' and 'judge'",
        )
        _require(all(word.strip() for word in self.words), "words must not contain an empty word")
        for pattern in self.patterns:
            try:
                Expression(pattern)
            except re.error as error:
                raise ConfigError(
                    f"patterns: {pattern!r} is not a regular expression: {error}"
                ) from error
        _require("{answer}" in self.question, "question must contain {answer}, the text to judge")
        _require(
            0 < self.threshold <= 1,
            f"threshold must be above 0 and at most 1, not {self.threshold}",
        )


@dataclass(frozen=True, slots=True)
class PatchRule:
    """A rule that ends a patch, in place of a fixed size. The patch has at least `min` tokens and
    at most `max`; only the end of the answer makes it shorter.

    `until` is the place where a patch ends. "sentence": at the end of a sentence. "uncertainty":
    before a token whose distribution has an entropy at least `rise` nats above the mean over the
    patch's tokens so far. "switcher": when the switcher, asked at every token, has preferred
    another candidate by at least `margin` in probability for `dwell` tokens in a row. "random": at
    a length drawn uniformly, as a control for the other rules.
    """

    until: Until
    min: int = 8
    max: int = 64
    rise: float = 1.0
    margin: float = 0.1
    dwell: int = 2

    def __post_init__(self) -> None:
        _require(self.min >= 1, f"patch.min must be at least 1, not {self.min}")
        _require(
            self.max >= self.min,
            f"patch.max must be at least patch.min, which is {self.min}, not {self.max}",
        )
        _require(
            self.max <= MOST_TOKENS, f"patch.max must be at most {MOST_TOKENS}, not {self.max}"
        )
        _require(0 < self.rise < float("inf"), f"patch.rise must be above 0 nats, not {self.rise}")
        _require(
            0 <= self.margin < 1, f"patch.margin must be 0 or more and below 1, not {self.margin}"
        )
        _require(self.dwell >= 1, f"patch.dwell must be at least 1, not {self.dwell}")

    def draw(self, uniform: float) -> int:
        """A length from `min` to `max`, uniform for a uniform number in [0, 1)."""
        return self.min + int(uniform * (self.max - self.min + 1))


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one answer. Lengths are in tokens; `opening` and `closing` are candidate
    indices.

    `top_p` applies to the draw of the speaker: 1 draws from the switcher's whole distribution, and
    `greedy_switcher` takes the most probable candidate. `temperature` and `speaker_top_p` apply to
    the tokens that a speaker writes; temperature 0 is greedy. The closing speaker writes the last
    patch that the budget allows. With `closing_on_end` it also writes one patch after another
    speaker ends the answer, and that end is removed. `closing_cue` is text put before the closing
    patch; it is recorded as forced.

    `max_share` has pairs of a candidate and the largest share, 0 to 1, of an answer's tokens that
    it may write: the candidate is not drawn if its longest possible patch would exceed that share.
    `guard` checks each patch before it is given out. `patch` ends patches by a rule instead of at
    `patch_size` tokens; no rule ends a closing patch. `format` is what the whole answer must be;
    it constrains each speaker in its own tokens. `tool_call_parser` is the format in which an
    answer calls tools, None for that of the candidates' chat templates. `sampling` is what else
    shapes the speakers' distributions, None where nothing does.
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
    patch: PatchRule | None = None
    format: AnswerFormat | None = None
    sampling: SamplingOptions | None = None
    tool_call_parser: str | None = None

    def __post_init__(self) -> None:
        if self.sampling is not None:
            check_sampling(self.sampling)
            object.__setattr__(self, "sampling", canonical(self.sampling))
        for name, tokens in (("patch_size", self.patch_size), ("max_tokens", self.max_tokens)):
            _require(tokens >= 1, f"{name} must be at least 1, not {tokens}")
            _require(tokens <= MOST_TOKENS, f"{name} must be at most {MOST_TOKENS}, not {tokens}")
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
            _require(
                index is None or index >= 0,
                f"{name} must be a candidate's index, 0 or more, not {index}",
            )
        for name in ("closing_cue", "closing_on_end"):
            _require(
                not getattr(self, name) or self.closing is not None,
                f"{name} needs a closing speaker: set closing, or remove {name}",
            )
        _require(
            self.tool_call_parser is None or self.tool_call_parser in FORMATS,
            f"tool_call_parser must be one of {', '.join(FORMATS)}, not {self.tool_call_parser!r}",
        )
        _require(self.closing_cue != "", "closing_cue must not be empty: write a text, or null")
        named = {"opening": self.opening, "closing": self.closing}
        named["guard.to"] = None if self.guard is None else self.guard.to
        for index, share in self.max_share:
            _require(0 <= share <= 1, f"max_share must be between 0 and 1, not {share}")
            for name, other in named.items():
                _require(
                    index != other,
                    f"max_share and {name} both name candidate {index}: max_share limits only "
                    "candidates that no rule selects; remove one of the two",
                )

    def check_pool(self, candidates: int) -> None:
        """Raise ConfigError for a rule that names a candidate outside a pool of this size."""
        named = [("opening", self.opening), ("closing", self.closing)]
        named += [("max_share", index) for index, _ in self.max_share]
        named += [] if self.guard is None else [("guard.to", self.guard.to)]
        for rule, index in named:
            _require(
                index is None or index < candidates,
                f"{rule} names candidate {index}, but the {candidates} candidates are numbered "
                f"from 0 to {candidates - 1}",
            )

    def without_rules(self) -> Policy:
        """The same policy without opening, closing, caps and guard: the switcher alone decides."""
        return replace(
            self,
            opening=None,
            closing=None,
            closing_on_end=False,
            closing_cue=None,
            max_share=(),
            guard=None,
        )

    @property
    def unfollowed(self) -> Policy:
        """The same policy for a switcher that cannot be asked at every token: if `patch` asks it,
        patch lengths are random instead."""
        if self.patch is None or self.patch.until != "switcher":
            return self
        return replace(self, patch=replace(self.patch, until="random"))

    @property
    def shortest(self) -> int:
        """The fewest tokens of a patch that does not end the answer."""
        return self.patch_size if self.patch is None else self.patch.min

    @property
    def longest(self) -> int:
        """The most tokens of a patch."""
        return self.patch_size if self.patch is None else self.patch.max
