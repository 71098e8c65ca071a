"""The head switcher: a linear layer on hidden states of the candidates.

A head reads the state of one candidate after the last token of the answer so far, under that
candidate's own prompt. In mode "speaker" it reads the candidate that spoke last, which encodes only
one more token. In mode "candidate" it always reads one named candidate, which first encodes what
the others wrote, as it would at its next turn. On disk a head is a folder with `head.json` and
`head.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast

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


CONFIG = "head.json"
LEAST = 10  # labels that a reader needs for weights of its own

T = TypeVar("T")
Mode = Literal["speaker", "candidate"]
Kind = Literal["head", "judge"]  # of what is stored: both read hidden states


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """What a head reads. `reader` is the candidate whose states it reads: always in mode
    "candidate", only before the first patch in mode "speaker". `layers` has each reader's layers;
    0 is the embedding. `labels` has the number of training labels by the last speaker, in the
    candidates' order, then those before the first patch; empty if the head has no such record."""

    mode: Mode
    candidates: tuple[str, ...]
    reader: str
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    labels: tuple[int, ...] = ()

    @property
    def readers(self) -> tuple[str, ...]:
        """The candidates whose states it may read."""
        return self.candidates if self.mode == "speaker" else (self.reader,)


@dataclass(frozen=True, slots=True)
class View:
    """The input of a head at a patch boundary: the states `[layers * d]` of candidate `reader`,
    None if its context is full, and the index of the candidate that spoke `last`; the number of
    candidates means that none has spoken."""

    reader: int
    last: int
    states: Tensor | None


@dataclass(frozen=True, slots=True)
class Scale:
    """The standardisation and the weights of one reader: `mean` and `deviation` `[layers * d]`,
    `weight` `[candidates, layers * d]`."""

    mean: Tensor
    deviation: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class Head:
    """Gives the candidates' logits: a reader's standardised states times its weights, plus a bias
    by the last speaker, `[candidates + 1, candidates]`. A reader with a full context, or without a
    scale because it had too few labels, counts as a reader in its average state."""

    config: HeadConfig
    scales: Mapping[str, Scale]
    bias: Tensor

    def logits(self, view: View) -> Tensor:
        """One logit per candidate. Raises ConfigError if the states have another size than in
        training."""
        name = self.config.candidates[view.reader]
        scale = self.scales.get(name)
        if view.states is None or scale is None:
            return self.bias[view.last]
        if view.states.shape != scale.mean.shape:
            raise ConfigError(
                f"the head expects {len(scale.mean)} state values of {name} (hidden size times "
                f"layers), but this model has {len(view.states)}: train the head again, or use the "
                "model that it was trained on"
            )
        return scale.weight @ ((view.states - scale.mean) / scale.deviation) + self.bias[view.last]

    def ordered(self, names: Sequence[str]) -> Head:
        """The same head for the candidates in another order. Raises ConfigError if the names
        differ."""
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
        """The last speakers, by index, after which it reads no states. The number of candidates as
        an index means: before the first patch."""
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
        """The number of parameters, the standardisation included."""
        parts = [self.bias, *(t for s in self.scales.values() for t in _tensors(s).values())]
        return sum(part.numel() for part in parts)

    def save(self, folder: Path) -> None:
        """Write both files."""
        tensors = {
            f"{name}.{part}": tensor
            for name, scale in self.scales.items()
            for part, tensor in _tensors(scale).items()
        }
        save("head", self.config, {"bias": self.bias, **tensors}, folder)

    @classmethod
    def load(cls, source: str) -> Head:
        """Read a head from a folder or a hub id. Raises ConfigError."""

        def of(config: HeadConfig, tensors: Mapping[str, Tensor]) -> Head:
            scales = {
                name: Scale(*(tensors[f"{name}.{part}"] for part in Scale.__annotations__))
                for name in config.readers
                if f"{name}.mean" in tensors
            }
            return cls(config, scales, tensors["bias"])

        return load("head", source, of)


def save(kind: Kind, config: HeadConfig, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write what reads hidden states: its configuration and its weights."""
    from safetensors.torch import save_file

    weights = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(weights, folder / f"{kind}.safetensors")
    record = {"schema": _schema(kind), **asdict(config)}
    (folder / f"{kind}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load(kind: Kind, source: str, make: Callable[[HeadConfig, Mapping[str, Tensor]], T]) -> T:
    """What `make` makes of both files in a folder or a hub id. Raises ConfigError, also for a
    weight that `make` misses."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = load_config(source, kind)
    try:
        tensors = load_file(_file(kind, source, f"{kind}.safetensors"))
        made = make(config, tensors)
        _check_weights(tensors, kind, source)
        return made
    except (OSError, KeyError, SafetensorError) as error:
        raise ConfigError(f"cannot read the {kind}'s weights in {source}: {error}") from error


def load_config(source: str, kind: Kind = "head") -> HeadConfig:
    """What a head or a judge reads, without its weights. Raises ConfigError."""
    path, schema = _file(kind, source, f"{kind}.json"), _schema(kind)
    try:
        record = read_json(path)
        if record.get("schema") != schema:
            raise ConfigError(
                f"{path} has the schema {record.get('schema')!r} and not {schema!r}: it is not the "
                f"file of a {kind}; name a folder that taketurns train wrote"
            )
        return HeadConfig(
            mode=record["mode"],
            candidates=tuple(record["candidates"]),
            reader=record["reader"],
            layers={name: tuple(layers) for name, layers in record["layers"].items()},
            labels=tuple(record.get("labels", ())),
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"cannot read the {kind} {path}: {error!r}") from error


def describe_labels(config: HeadConfig) -> str | None:
    """The number of training labels by last speaker, in one line; None if it is not known."""
    if not config.labels:
        return None
    counts = zip((*config.candidates, "none yet"), config.labels, strict=True)
    return "labels by last speaker: " + ", ".join(f"{name} {count}" for name, count in counts)


def describe_blind(head: Head) -> str | None:
    """What a head does where it reads no states or has too few labels, in one line; None if there
    is no such place."""
    names = [*(f"after {name}" for name in head.config.candidates), "before the first patch"]
    parts = []
    if blind := head.blind:
        rows = head.bias[list(blind)].softmax(-1)
        even = bool((rows.max(-1).values - rows.min(-1).values < 1e-6).all())
        how = "evenly" if even else "by how often each candidate is best in all labels"
        parts.append(
            f"{_joined([names[last] for last in blind])} it reads no states and draws {how}: there "
            f"are fewer than {LEAST} labels"
        )
    few = [
        last for last, count in enumerate(head.config.labels) if count < LEAST and last not in blind
    ]
    if few:
        parts.append(
            f"{_joined([names[last] for last in few])} there are fewer than {LEAST} labels, so it "
            "uses what it learned from the other labels"
        )
    cure = "make more labels with taketurns rollout, or on-policy ones with --traces mixed"
    return f"{'; '.join(parts)}; {cure}" if parts else None


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


class StateReader:
    """Reads the states that a head of this configuration needs, in training and in inference."""

    def __init__(self, config: HeadConfig) -> None:
        self._config = config
        self._reader = config.candidates.index(config.reader)

    async def view(self, session: Session, state: GenerationView) -> View:
        """The head's input for the answer so far. Raises EngineError if the model fails."""
        at_start = len(self._config.candidates)
        spoke = last_speaker(state.patches)
        last = at_start if spoke is None else spoke
        alone = self._config.mode == "candidate" or last == at_start
        reader = self._reader if alone else last
        if state.room(reader) <= 0:
            return View(reader, last, None)
        name = self._config.candidates[reader]
        deep = cast(DeepSession, session)  # prepare() has checked that the engine can
        states = await deep.hidden(name, state.prompt(reader), self._config.layers[name])
        if not states.isfinite().all():
            raise NotANumberError(f"{name} gave NaN or infinity in its hidden states")
        return View(reader, last, states.flatten())


class HeadSwitcher:
    """Decides by a linear head on hidden states; `source` is its folder or hub id, or the head
    itself. `seen` is called with the head's input at every decision."""

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
    """A head's decisions in one answer: at patch boundaries, where `seen` is called with its input,
    and, in mode "speaker", at any token (`switchers.TokenLevelSwitcher`)."""

    def __init__(self, head: Head, seen: Callable[[View], None] | None = None) -> None:
        self._head = head
        self._seen = seen
        self._reader = StateReader(head.config)

    async def __call__(self, session: Session, state: GenerationView) -> tuple[float, ...]:
        view = await self._reader.view(session, state)
        if self._seen is not None:
            self._seen(view)
        return self.weigh(view)

    def layers(self, speaker: int) -> tuple[int, ...]:
        config = self._head.config
        if config.mode != "speaker":
            raise ConfigError(
                f"the head always reads {config.reader}, so it cannot be asked at every token of "
                "another speaker: train a head with --mode speaker"
            )
        return config.layers[config.candidates[speaker]]

    def follow(self, speaker: int, states: Tensor) -> tuple[float, ...]:
        return self.weigh(View(speaker, speaker, states.flatten()))

    def weigh(self, view: View) -> tuple[float, ...]:
        """The candidates' probabilities for this input. Raises ConfigError for states of another
        size than in training, EngineError for NaN or infinity."""
        logits = self._head.logits(view)
        if not logits.isfinite().all():
            reader = self._head.config.candidates[view.reader]
            raise EngineError(f"the head gave NaN or infinity for the states of {reader}")
        return tuple(logits.softmax(-1).tolist())


def check_hidden(info: ModelInfo) -> None:
    """Raise ConfigError if the engine cannot give a model's hidden states."""
    if "hidden" not in info.capabilities:
        raise ConfigError(
            f"a head reads hidden states, which the engine of {info.name} does not give: fold the "
            "head into the checkpoints (`taketurns export --fold-switcher`), or use a switcher of "
            "kind lm"
        )


def _check_weights(tensors: Mapping[str, Tensor], kind: Kind, source: str) -> None:
    """Raise ConfigError for weights that are not finite or would divide by 0."""
    what, cure = f"the {kind}'s weights in {source}", f"train the {kind} again"
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ConfigError(f"{what} hold NaN or infinity in {name}: {cure}")
        if name.endswith("deviation") and not (tensor > 0).all():
            raise ConfigError(f"{what} hold a value of 0 or less in {name}: {cure}")


def _schema(kind: Kind) -> str:
    return f"taketurns.{kind}/1"


def _tensors(scale: Scale) -> dict[str, Tensor]:
    return {"mean": scale.mean, "deviation": scale.deviation, "weight": scale.weight}


def _file(kind: Kind, source: str, name: str) -> Path:
    """The path of a file, fetched from the hub if `source` is not a folder."""
    path = hub.fetch(f"the {kind}", source, name)
    if path is None:
        raise ConfigError(
            f"cannot load the {kind} {source!r}: it has no {name}; name a folder that taketurns "
            "train wrote"
        )
    return path
