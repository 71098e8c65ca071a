"""Does a way of running a model give the logits of a plain forward?

A trial uses a runner as the engine does: concurrent answers of different lengths, several turns,
tokens of other speakers appended at once, and rewritten text. The logits of every chosen token are
compared with those of the model's own forward over the same tokens, computed without a cache.

`ROUNDS` is for a small copy of the model (`engines/local/small_copy.py`), in float32 and longer
than its window of 8 tokens; `BRIEF` is for the real weights, `LONGER` for real weights without a
copy, and `ONCE` for a way that can only fail with an error. They read at most 64 tokens.

The distance is the root mean square of the difference, divided by that of the logits about their
mean, so it has no unit: 1 means unrelated. In float32 two correct ways differ by 1e-7 to 1e-4; a
wrong position gives 1e-2 and more. Lower precision is noisier: if the distance exceeds the bound
for the precision, the plain forward is repeated in a batch of two with another text, and four times
the change that this causes is allowed too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from taketurns.engines.local.parked import Parked
from taketurns.engines.local.plain_forward import PlainForward, Unfit
from taketurns.engines.local.requests import GenerateRequest
from taketurns.engines.local.scheduler import BatchRunner
from taketurns.types import Finish, Sampling

NOISE = 4.0  # allowed distance, as a multiple of the change by another batch shape
_BOUNDS = {torch.float32: 5e-4, torch.float64: 5e-4, torch.float16: 2e-2}
_COARSE = 5e-2  # bfloat16, and quantised weights
_TF32 = 2e-3  # float32 on a device that may round its products


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one answer: keep the first `keep` tokens (None: all; below 0: all but so many),
    append `more` tokens of other speakers, then write `write` tokens."""

    keep: int | None
    more: int
    write: int


Rounds = Sequence[Sequence[Turn]]

# The turns of a round run concurrently. First different lengths; then hand-overs of one token, of
# more than a window and of a few; then rewinds to before the window and into it; then rewinds into
# what was just written, where a model with states goes on from a snapshot.
ROUNDS = (
    (Turn(None, 13, 3), Turn(None, 5, 4), Turn(None, 22, 3)),
    (Turn(None, 1, 2), Turn(None, 12, 3), Turn(None, 4, 2)),
    (Turn(9, 3, 2), Turn(4, 6, 3), Turn(20, 1, 2)),
    (Turn(-1, 2, 2), Turn(-2, 0, 2), Turn(-4, 3, 1)),
)
# The second turn continues after one token of another speaker. A block of tokens would double the
# computation, and the copy has covered it.
BRIEF = ((Turn(None, 6, 2),), (Turn(7, 1, 1),))
LONGER = (
    (Turn(None, 6, 2), Turn(None, 4, 2)),
    (Turn(None, 3, 2), Turn(3, 2, 2)),
)
ONCE = ((Turn(None, 6, 1),),)
LONGEST = 13  # tokens of the longest text in BRIEF, LONGER and ONCE


class NoReferenceError(Exception):
    """The model has no reference logits to compare with; the message is a clause that says why."""


class Truth:
    """A model's own logits, as the reference. If the model is causal, one forward gives the logits
    of all prefixes; whether it is causal is tested."""

    def __init__(self, plain: PlainForward, causal: bool | None = None) -> None:
        self._plain = plain
        self.causal = causal
        self._bound = bound(plain)

    def after(self, ids: Sequence[int], counts: Sequence[int]) -> Tensor:
        """Logits `[len(counts), vocabulary]` after the first `count` tokens, for each count."""
        if self.causal is None:
            self.causal = self._is_causal(ids, (len(ids) // 2, len(ids) - 1))
        if not self.causal:
            return torch.stack([self._plain(ids[:count]).logits[0, -1] for count in counts])
        logits = self._plain(ids[: max(counts)]).logits[0]
        return logits[[count - 1 for count in counts]]

    def distance(self, ids: Sequence[int], counts: Sequence[int], ours: Tensor) -> float | None:
        """The distance of `ours` `[len(counts), vocabulary]` from the reference; None if the
        precision explains it. Raises NoReferenceError if two forwards of the model differ."""
        distance = apart(ours, self.after(ids, counts))
        if distance <= self._bound:
            return None
        whole, again = (self._plain(ids).logits[0] for _ in range(2))
        if apart(again, whole) > self._bound:
            raise NoReferenceError("two forwards of one text give different logits")
        if self.causal and not self._is_causal(ids, counts):
            self.causal = False
            distance = apart(ours, self.after(ids, counts))
            if distance <= self._bound:
                return None
        return None if distance <= NOISE * apart(self._beside(ids), whole) else distance

    def _is_causal(self, ids: Sequence[int], counts: Sequence[int]) -> bool:
        whole = self._plain(ids).logits[0]
        return all(
            apart(whole[count - 1], self._plain(ids[:count]).logits[0, -1]) <= self._bound
            for count in counts
            if count > 0
        )

    def generates(self, ids: Sequence[int]) -> bool:
        """Whether transformers' `generate` begins with the logits of a plain forward. It gives
        other inputs to models that predict a token from both its sides."""
        try:
            made = self._plain.model.generate(
                torch.tensor([list(ids)], device=self._plain.device),
                max_new_tokens=1,
                do_sample=False,
                use_cache=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        except Exception as error:
            _reraise_if_memory(error)
            return True  # it cannot be compared
        return apart(made.logits[0][0], self._plain(ids).logits[0, -1]) <= self._bound

    @torch.inference_mode()
    def _beside(self, ids: Sequence[int]) -> Tensor:
        rows = torch.tensor([list(ids), list(reversed(ids))], device=self._plain.device)
        logits: Tensor = self._plain.model(input_ids=rows, use_cache=False).logits
        return logits[0].float()


@dataclass(slots=True)
class _TrialAnswer:
    model: str
    ids: list[int] = field(default_factory=list)
    parked: Parked = field(default_factory=Parked)


class _Trial(GenerateRequest):
    """A request that writes greedily and keeps the logits of every token."""

    def __init__(self, answer: _TrialAnswer, write: int) -> None:
        super().__init__(
            answer.ids,
            answer.parked,
            self._done,
            self._failed,
            sampling=Sampling(write, temperature=0.0),
            codec=cast(Any, None),  # text is needed only for stop strings
            end_token_ids=frozenset(),
            random=np.random.default_rng(0),
        )
        self.model = answer.model
        self.logits: list[Tensor] = []
        self.error: Exception | None = None
        self.over = False

    def take(self, token: int, logits: Tensor | None = None) -> Finish | None:
        assert logits is not None, "trials have no ensembles"
        self.logits.append(logits.clone())
        return super().take(token, logits)

    def _done(self, result: Any) -> None:
        self.over = True

    def _failed(self, error: Exception) -> None:
        self.error = error
        self.over = True


def differs(
    runner: BatchRunner, truths: Mapping[str, Truth], rounds: Rounds, ids: Sequence[int]
) -> str | None:
    """Try a runner with answers of all models that `truths` names at the same time. Returns why its
    answers would differ from the models', as a clause; None if they do not. Texts are made of the
    ordinary tokens `ids`; each begins with the first."""
    random = Random(0)
    answers = [_TrialAnswer(model) for _ in rounds[0] for model in truths]
    seen: dict[str, list[_WrittenText]] = {model: [] for model in truths}
    for round_ in rounds:
        trials: list[_Trial] = []
        turns = [turn for turn in round_ for _ in truths]
        for answer, turn in zip(answers, turns, strict=True):
            more = [random.choice(ids[1:]) for _ in range(turn.more)]
            if not answer.ids:
                more[0] = ids[0]
            answer.ids = [*answer.ids[: turn.keep], *more]
            trials.append(_Trial(answer, turn.write))
            runner.submit(trials[-1])
        while runner.busy:
            runner.step()
        for answer, trial in zip(answers, trials, strict=True):
            if trial.error is not None:
                _reraise_if_memory(trial.error)
                fails = "" if isinstance(trial.error, Unfit) else "a trial ends in "
                return fails + described(trial.error)
            start = len(answer.ids)
            answer.ids = [*answer.ids, *trial.result.token_ids]
            counts = range(start, start + len(trial.logits))
            text = _WrittenText(answer.ids, list(counts), trial.logits)
            seen[answer.model].append(text)
    wrong = (_wrong(truths[model], text) for model in truths for text in _joined(seen[model]))
    return next((why for why in wrong if why is not None), None)


@dataclass(slots=True)
class _WrittenText:
    """The logits after the first `count` of `ids`, for each of `counts`."""

    ids: list[int]
    counts: list[int]
    logits: list[Tensor]


def _joined(seen: Sequence[_WrittenText]) -> list[_WrittenText]:
    """Join a text with a longer one that continues it, so that one forward serves both."""
    whole: list[_WrittenText] = []
    for shorter in sorted(seen, key=lambda shorter: -len(shorter.ids)):
        longer = next((text for text in whole if text.ids[: len(shorter.ids)] == shorter.ids), None)
        if longer is None:
            whole.append(_WrittenText(shorter.ids, [*shorter.counts], [*shorter.logits]))
        else:
            longer.counts += shorter.counts
            longer.logits += shorter.logits
    return whole


def _wrong(truth: Truth, text: _WrittenText) -> str | None:
    try:
        distance = truth.distance(text.ids, text.counts, torch.stack(text.logits))
    except NoReferenceError:
        raise
    except Exception as error:
        _reraise_if_memory(error)
        raise NoReferenceError(f"its own forward fails with {described(error)}") from error
    if distance is None:
        return None
    return f"its logits are not those of a plain forward (they are {distance:.1g} apart)"


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest distance of two rows of logits `[…, vocabulary]`; infinite if they are finite at
    different places."""
    there = torch.isfinite(theirs)
    if not torch.equal(there, torch.isfinite(ours)) or not bool(there.any()):
        return float("inf")
    # Clamp, so that masking by a huge number counts like masking by infinity.
    ours, theirs = (
        torch.nan_to_num(x.float(), 0.0, 0.0, 0.0).clamp(-1e4, 1e4) for x in (ours, theirs)
    )
    spread = (theirs - theirs.mean(-1, keepdim=True)).square().mean(-1).sqrt()
    distance = (ours - theirs).square().mean(-1).sqrt() / spread.clamp_min(1e-20)
    return float(distance.max())


def bound(plain: PlainForward) -> float:
    """The allowed distance of two correct ways, by the precision of the model's computation."""
    weight = plain.model.get_input_embeddings().weight
    if getattr(plain.model.config, "quantization_config", None) is not None:
        return _COARSE
    if weight.dtype == torch.float32 and weight.device.type != "cpu":
        return _TF32
    return _BOUNDS.get(weight.dtype, _COARSE)


def described(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, Unfit):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _reraise_if_memory(error: Exception) -> None:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        raise error
