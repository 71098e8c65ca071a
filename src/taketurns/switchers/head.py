"""A switcher without a model of its own: a linear head on hidden states of the candidates.

What it reads is the state of one candidate after the last token of the answer so far, under that
candidate's own prompt: of the candidate that spoke last ("speaker": one token more for a model that
has just encoded the rest), or of one named candidate ("candidate": it catches up, as it would have
to at its next turn). On disk a head is a folder with `head.json` and `head.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from taketurns.checkpoints import hub
from taketurns.config.policy import Policy
from taketurns.engines.base import DeepSession, Engine, ModelInfo, Session
from taketurns.errors import ConfigError, EngineError, NotANumberError
from taketurns.switchers.base import Decide, GenerationView, last_speaker
from taketurns.switchers.candidate_order import permutation
from taketurns.types import Query
from taketurns.utils.json_files import read_json

if TYPE_CHECKING:
    from torch import Tensor


SCHEMA = "taketurns.head/1"
CONFIG, WEIGHTS = "head.json", "head.safetensors"
LEAST = 10  # labels that a map is made from; of fewer there is none

Mode = Literal["speaker", "candidate"]


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """What a head reads. `reader` is the candidate that reads: always in mode "candidate", only
    before any has spoken in mode "speaker". `layers` counts the embedding as 0. `labels` says how
    many it learned from after each candidate and, last, before any had spoken; empty where a head
    was written without them."""

    mode: Mode
    candidates: tuple[str, ...]
    reader: str
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    labels: tuple[int, ...] = ()

    @property
    def readers(self) -> tuple[str, ...]:
        """Whose states it may be asked to read."""
        return self.candidates if self.mode == "speaker" else (self.reader,)


@dataclass(frozen=True, slots=True)
class View:
    """What a head sees at a patch boundary: the states `[layers * d]` of candidate `reader`, None
    where its context is full, and who spoke `last` (the number of candidates: none has spoken)."""

    reader: int
    last: int
    states: Tensor | None


@dataclass(frozen=True, slots=True)
class Scale:
    """Each reader's own standardisation and weights: `mean` and `deviation` `[layers * d]`,
    `weight` `[candidates, layers * d]`."""

    mean: Tensor
    deviation: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class Head:
    """Logits of the candidates: a reader's standardised states times its weights, and a bias for
    who spoke last, `[candidates + 1, candidates]`. A full context counts as the average state, and
    so does a reader that no example was of, which has no scale."""

    config: HeadConfig
    scales: Mapping[str, Scale]
    bias: Tensor

    def logits(self, view: View) -> Tensor:
        """One a candidate. Raises ConfigError for states of another size than it was trained on."""
        name = self.config.candidates[view.reader]
        scale = self.scales.get(name)
        if view.states is None or scale is None:
            return self.bias[view.last]
        if view.states.shape != scale.mean.shape:
            raise ConfigError(
                f"the head was trained on {len(scale.mean)} numbers of {name}, whose states have "
                f"{len(view.states)}: this is another model"
            )
        return scale.weight @ ((view.states - scale.mean) / scale.deviation) + self.bias[view.last]

    def ordered(self, names: Sequence[str]) -> Head:
        """The same head for candidates in another order. Raises ConfigError for another pool."""
        known = self.config.candidates
        at = permutation(known, names, "head")
        labels = (
            tuple(self.config.labels[i] for i in (*at, len(known))) if self.config.labels else ()
        )
        return Head(
            replace(self.config, candidates=tuple(names), labels=labels),
            {n: Scale(s.mean, s.deviation, s.weight[at]) for n, s in self.scales.items()},
            self.bias[[*at, len(known)]][:, at],
        )

    @property
    def blind(self) -> tuple[int, ...]:
        """After whom it reads no states, by place; the place after the last candidate is before any
        of them has spoken."""
        at_start = len(self.config.candidates)
        reader = self.config.candidates.index(self.config.reader)
        readers = [*range(at_start), reader] if self.config.mode == "speaker" else [reader]
        if self.config.mode == "candidate":
            readers *= at_start + 1
        return tuple(
            last for last, by in enumerate(readers) if self.config.candidates[by] not in self.scales
        )

    @property
    def numbers(self) -> int:
        """How many numbers it is made of."""
        parts = [self.bias, *(t for s in self.scales.values() for t in _tensors(s).values())]
        return sum(part.numel() for part in parts)

    def save(self, folder: Path) -> None:
        """Write both files."""
        from safetensors.torch import save_file

        tensors = {
            f"{name}.{part}": tensor.contiguous()
            for name, scale in self.scales.items()
            for part, tensor in _tensors(scale).items()
        }
        save_file({"bias": self.bias.contiguous(), **tensors}, folder / WEIGHTS)
        record = {"schema": SCHEMA, **asdict(self.config)}
        (folder / CONFIG).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, source: str) -> Head:
        """Read a head from a folder or a hub id. Raises ConfigError."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        config = load_config(source)
        try:
            tensors = load_file(_file(source, WEIGHTS))
            scales = {
                name: Scale(*(tensors[f"{name}.{part}"] for part in Scale.__annotations__))
                for name in config.readers
                if f"{name}.mean" in tensors
            }
            _check_weights(tensors, f"the head's weights in {source}")
            return cls(config, scales, tensors["bias"])
        except (OSError, KeyError, SafetensorError) as error:
            raise ConfigError(f"cannot read the head's weights in {source}: {error}") from error


def load_config(source: str) -> HeadConfig:
    """What a head reads, without its weights. Raises ConfigError."""
    path = _file(source, CONFIG)
    try:
        record = read_json(path)
        if record.get("schema") != SCHEMA:
            raise ConfigError(f"{path} is no {SCHEMA} record")
        return HeadConfig(
            mode=record["mode"],
            candidates=tuple(record["candidates"]),
            reader=record["reader"],
            layers={name: tuple(layers) for name, layers in record["layers"].items()},
            labels=tuple(record.get("labels", ())),
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"cannot read the head {path}: {error!r}") from error


def describe_labels(config: HeadConfig) -> str | None:
    """How many labels each part learned from, in a line; None where that is not known."""
    if not config.labels:
        return None
    counts = zip((*config.candidates, "nobody"), config.labels, strict=True)
    return "labels by who spoke last: " + ", ".join(f"{name} {count}" for name, count in counts)


def describe_blind(head: Head) -> str | None:
    """What it does where it reads no states and where it has too few labels, in a line; None where
    it reads everywhere."""
    names = [*(f"after {name}" for name in head.config.candidates), "before anybody has spoken"]
    parts = []
    if blind := head.blind:
        rows = head.bias[list(blind)].softmax(-1)
        even = bool((rows.max(-1).values - rows.min(-1).values < 1e-6).all())
        how = "evenly" if even else "as often as each candidate is best in all its labels"
        parts.append(
            f"{_joined([names[last] for last in blind])} it reads nothing and draws {how}: there "
            f"are fewer than {LEAST} labels"
        )
    few = [
        last for last, count in enumerate(head.config.labels) if count < LEAST and last not in blind
    ]
    if few:
        parts.append(
            f"{_joined([names[last] for last in few])} there are fewer than {LEAST} labels, so it "
            "decides there by what it learned elsewhere"
        )
    cure = "make more labels with taketurns rollout, or on-policy ones with --traces mixed"
    return f"{'; '.join(parts)}; {cure}" if parts else None


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


class StateReader:
    """Reads what a head of this configuration decides by; training and inference use it alike."""

    def __init__(self, config: HeadConfig) -> None:
        self._config = config
        self._reader = config.candidates.index(config.reader)

    async def view(self, session: Session, state: GenerationView) -> View:
        """Raises EngineError when the model fails."""
        at_start = len(self._config.candidates)
        spoke = last_speaker(state.patches)
        last = at_start if spoke is None else spoke
        alone = self._config.mode == "candidate" or last == at_start
        reader = self._reader if alone else last
        if state.room(reader) <= 0:
            return View(reader, last, None)
        name = self._config.candidates[reader]
        deep = cast(DeepSession, session)  # prepare() has seen that the engine can
        states = await deep.hidden(name, state.prompt(reader), self._config.layers[name])
        if not states.isfinite().all():
            raise NotANumberError(f"{name} gave NaN or infinity in the states that the head reads")
        return View(reader, last, states.flatten())


class HeadSwitcher:
    """Decides by a linear head on hidden states; `source` is its folder or hub id, or the head
    itself. `seen` is told what the head saw at every decision."""

    def __init__(self, source: str | Head, seen: Callable[[View], None] | None = None) -> None:
        self._source = source
        self._seen = seen
        self._head: Head | None = None

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        head = self._source if isinstance(self._source, Head) else Head.load(self._source)
        head = head.ordered([info.name for info in candidates])
        for info in candidates:
            if info.name in head.config.readers:
                check_hidden(info)
        self._head = head

    def begin(self, query: Query, policy: Policy) -> Decide:
        assert self._head is not None, "prepare() before begin()"
        return HeadDecide(self._head, self._seen)


class HeadDecide:
    """A head in one answer: at patch boundaries, of which `seen` is told what it saw, and, where it
    reads the speaker, at any token (`switchers.TokenLevelSwitcher`)."""

    def __init__(self, head: Head, seen: Callable[[View], None] | None = None) -> None:
        self._head = head
        self._seen = seen
        self._reader = StateReader(head.config)

    async def __call__(self, session: Session, state: GenerationView) -> tuple[float, ...]:
        view = await self._reader.view(session, state)
        if self._seen is not None:
            self._seen(view)
        return self._weigh(view)

    def layers(self, speaker: int) -> tuple[int, ...]:
        config = self._head.config
        if config.mode != "speaker":
            raise ConfigError(
                f"the head reads {config.reader} whoever speaks, so it cannot be asked at every "
                "token: train one with --mode speaker"
            )
        return config.layers[config.candidates[speaker]]

    def follow(self, speaker: int, states: Tensor) -> tuple[float, ...]:
        return self._weigh(View(speaker, speaker, states.flatten()))

    def _weigh(self, view: View) -> tuple[float, ...]:
        logits = self._head.logits(view)
        if not logits.isfinite().all():
            reader = self._head.config.candidates[view.reader]
            raise EngineError(f"the head gave NaN or infinity for what it reads of {reader}")
        return tuple(logits.softmax(-1).tolist())


def check_hidden(info: ModelInfo) -> None:
    """Raise ConfigError if the engine does not give a model's hidden states."""
    if "hidden" not in info.capabilities:
        raise ConfigError(
            f"a head reads hidden states, which the engine of {info.name} does not give; fold it "
            "into the checkpoints (`taketurns export --fold-switcher`), or use a switcher of kind "
            "lm"
        )


def _check_weights(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise ConfigError for weights that no head computes a number with."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ConfigError(f"{what} hold NaN or infinity in {name}: train the head anew")
        if name.endswith(".deviation") and not (tensor > 0).all():
            raise ConfigError(f"{what} hold a deviation of 0 or less: train the head anew")


def _tensors(scale: Scale) -> dict[str, Tensor]:
    return {"mean": scale.mean, "deviation": scale.deviation, "weight": scale.weight}


def _file(source: str, name: str) -> Path:
    """A file of a head, fetched from the hub if `source` is no folder."""
    path = hub.fetch("the head", source, name)
    if path is None:
        raise ConfigError(f"cannot load the head {source!r}: it has no {name}")
    return path
