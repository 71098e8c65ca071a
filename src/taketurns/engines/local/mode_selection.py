"""Select the way in which a model is run: the fastest one that gives the logits of a plain forward.

That is proved first on a small copy of the model, then on its weights
(`engines/local/equivalence.py`). Results are kept (`engines/local/equivalence_records.py`): for the
architecture, which many checkpoints share, and for the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from random import Random
from typing import Any

import torch

from taketurns.engines.local import batch_invariant, equivalence
from taketurns.engines.local.equivalence_records import ProofRecords, identity
from taketurns.engines.local.kv import MASKED
from taketurns.engines.local.loading import LoadedModel
from taketurns.engines.local.members import Member
from taketurns.engines.local.modes import Running, Way, make_runner
from taketurns.engines.local.plain_forward import PlainForward, Unfit
from taketurns.engines.local.scheduler import BatchRunner, LaneRunner
from taketurns.engines.local.small_copy import FIRST_ID, VOCABULARY, small_config, small_model
from taketurns.errors import ConfigError
from taketurns.types import ModelSpec

_BASE = "its base"  # in a trial of an adapter


@dataclass(frozen=True, slots=True)
class Found:
    """The result for a model. `way` is None if no way is correct. `reasons` has for each faster way
    why it is not correct. `copied`: a small copy could be made; without one, only the weights were
    tried. `apart` is why the rows of an adapter must not share forwards with those of others on its
    base, empty if they may, or if it is not one or not known."""

    way: Way | None
    reasons: dict[str, str]
    copied: bool
    apart: str = ""

    @property
    def why(self) -> str:
        """Why the way is not a faster one, or why there is none, as a clause."""
        reasons = list(dict.fromkeys(self.reasons.values()))
        return "; ".join(reasons if self.way is not None else reasons[-1:])

    def sentence(self, name: str) -> str:
        """The note for a user about a model that does not run in the fastest way."""
        assert self.way is not None, "a refused model has no way"
        return f"{name} {self.way.costs}, because {self.why}"


def refusal(model: str, architecture: str, why: str) -> str:
    """The message for a model that cannot be used, with the cure."""
    return (
        f"{architecture} in {model!r} cannot be run correctly here, because {why}: use another "
        "checkpoint, or a server that runs it (engine.kind: http)"
    )


class ArchitectureProof:
    """The proof on a small copy; earlier results are read from `records`."""

    def __init__(
        self,
        model_class: Any,
        config: Any,
        *,
        attention: str | None,
        dtype: torch.dtype,
        device: torch.device,
        running: Running,
        records: ProofRecords,
    ) -> None:
        self._class = model_class
        # The attention of exact rounds replaces sdpa, so the proof starts from sdpa.
        self._attention = "sdpa" if attention == batch_invariant.NAME else attention
        masked = self._attention is None or self._attention in MASKED
        self._dtype = torch.float32 if masked else dtype
        self._device = torch.device("cpu") if device.type == "meta" else device
        self._running = replace(running, suppressed=range(FIRST_ID))
        self._records = records
        self._config = self._shrink(config)
        self._key = self._make_key()
        self._found: dict[str, Any] = (self._config and records.read(self._key)) or {}
        self._model: Any = None
        self._truth: equivalence.Truth | None = None

    @property
    def copied(self) -> bool:
        """Whether a copy could be made."""
        return self._config is not None and self._found.get("copied", True)

    @property
    def causal(self) -> bool | None:
        """Whether the logits at a token are independent of later tokens; None if not known."""
        return self._found.get("causal")

    def why_not(self, way: Way) -> str | None:
        """Why the model must not be run in this way; None if it may, or if there is no copy."""
        if not self.copied:
            return None
        if way not in self._found.get("ways", {}):
            with _one_thread():
                self._prove(way)
        reason: str | None = self._found.get("ways", {}).get(way)
        return reason

    def _prove(self, way: Way) -> None:
        truth = self._copy()
        if truth is None:
            self._keep(copied=False)
            return
        ids = range(FIRST_ID, VOCABULARY)
        try:
            loaded = LoadedModel(self._model, None)
            why = _tried(way, loaded, self._running, truth, equivalence.ROUNDS, ids)[1]
            if why is None and not truth.causal and not truth.generates(ids[:16]):
                why = "it predicts a token from both its sides, so it does not write left to right"
        except equivalence.NoReferenceError as error:
            why = str(error)
        self._keep(causal=truth.causal, copied=True, ways={**self._found.get("ways", {}), way: why})

    def _copy(self) -> equivalence.Truth | None:
        """The copy's own logits as a reference; None if no working copy can be made."""
        if self._truth is None:
            try:
                model = small_model(self._class, self._config, self._attention, self._dtype)
                self._model = model.to(self._device)
                plain = PlainForward(self._model)
                seen = plain(list(range(FIRST_ID, FIRST_ID + 40)))
                if not bool(torch.isfinite(seen.logits).any(-1).all()):
                    return None
            except torch.OutOfMemoryError:
                raise
            except Exception:  # the smaller sizes may not fit each other
                return None
            self._truth = equivalence.Truth(plain)
        return self._truth

    def _keep(self, **facts: Any) -> None:
        self._found = {**self._found, **facts}
        self._records.write(self._key, self._found)

    @staticmethod
    def _shrink(config: Any) -> Any:
        try:
            return small_config(config)
        except Exception:  # the configuration's own checks may raise anything
            return None

    def _make_key(self) -> dict[str, Any]:
        small = None if self._config is None else self._config.to_dict()
        return {
            "proof": "architecture",
            "class": self._class.__name__,
            "config": _without_paths(small),
            "attention": self._attention,
            "dtype": str(self._dtype),
            "device": self._device.type,
            "deterministic": self._running.deterministic,
            "may_batch": self._running.may_batch,
            "versions": _versions(),
        }


def choose(
    spec: ModelSpec,
    loaded: LoadedModel,
    running: Running,
    records: ProofRecords,
) -> tuple[Found, BatchRunner | None]:
    """The fastest correct way for a loaded model, and a runner of that way, in which its rows may
    share forwards with those of others unless `Found.apart` says why not."""
    model = loaded.model
    if not running.shares:
        loaded = loaded.alone("")
    weight = model.get_input_embeddings().weight
    key = checkpoint_key(spec, str(weight.device), running)
    if (found := _recorded(records, key)) is not None:
        if found.way is None:
            return found, None
        return found, make_runner(found.way, _as_found(loaded, found.apart), running)
    architecture = ArchitectureProof(
        type(model),
        model.config,
        attention=model.config._attn_implementation,
        dtype=weight.dtype,
        device=weight.device,
        running=running,
        records=records,
    )
    runner: BatchRunner | None = None
    apart = loaded.apart

    def why_not(way: Way) -> str | None:
        nonlocal runner, apart
        runner, why = _on_weights(way, loaded, running, architecture)
        if why is not None and way is Way.KEPT and loaded.adapter is not None:
            apart = f"in a batch with others {why}"
            runner, why = _on_weights(way, loaded.alone(apart), running, architecture)
        return why

    found = fastest(architecture, why_not)
    if found.way is Way.KEPT:
        found = replace(found, apart=apart)
    records.write(key, asdict(found))
    return found, runner


def foresee(
    spec: ModelSpec,
    model_class: Any,
    config: Any,
    *,
    dtype: torch.dtype,
    device: str,
    running: Running,
    records: ProofRecords,
) -> Found:
    """The expected way for a model whose weights are not loaded: from its last load, else from its
    architecture."""
    if (found := _recorded(records, checkpoint_key(spec, device, running))) is not None:
        return found
    architecture = ArchitectureProof(
        model_class,
        config,
        attention=spec.attn_implementation,
        dtype=dtype,
        device=torch.device(device),
        running=running,
        records=records,
    )
    return fastest(architecture)


def fastest(
    architecture: ArchitectureProof, why_not: Callable[[Way], str | None] = lambda way: None
) -> Found:
    """The first way for which neither the architecture nor `why_not` gives a reason against it."""
    reasons: dict[str, str] = {}
    for way in Way:
        why = architecture.why_not(way)
        if why is None:
            why = why_not(way)
        if why is None:
            return Found(way, reasons, architecture.copied)
        reasons[way] = why
    return Found(None, reasons, architecture.copied)


def _on_weights(
    way: Way,
    loaded: LoadedModel,
    running: Running,
    architecture: ArchitectureProof,
) -> tuple[BatchRunner | None, str | None]:
    model = loaded.model
    truth = equivalence.Truth(PlainForward(model, loaded.activate), architecture.causal)
    ids = _ordinary(model, running)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    brief = architecture.copied and way is not Way.BATCHED
    rounds: equivalence.Rounds = equivalence.BRIEF if brief else equivalence.LONGER
    if way is Way.WHOLE:  # it is a plain forward itself, so there is nothing to compare
        rounds = equivalence.ONCE
    if context is not None and context <= equivalence.LONGEST:
        rounds = ()
    try:
        return _tried(way, loaded, running, truth, rounds, ids)
    except equivalence.NoReferenceError as error:
        return None, str(error)


def _tried(
    way: Way,
    loaded: LoadedModel,
    running: Running,
    truth: equivalence.Truth,
    rounds: equivalence.Rounds,
    ids: Sequence[int],
) -> tuple[BatchRunner | None, str | None]:
    """Try a way; an adapter whose rows may share forwards is tried beside its base. Returns a
    runner, or the reason why the way is not correct; in that case the model is left unchanged."""
    model = loaded.model
    truths = {running.model: truth}
    before = model.config._attn_implementation
    try:
        runner = make_runner(way, loaded, running)
        if isinstance(runner, LaneRunner) and loaded.rows is not None and loaded.adapter:
            runner.join(_BASE, Member())
            truths[_BASE] = equivalence.Truth(PlainForward(model, loaded.rows.bare), truth.causal)
        why = equivalence.differs(runner, truths, rounds, ids) if rounds else None
    except Unfit as error:
        return None, str(error)
    except (equivalence.NoReferenceError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # a model may raise anything
        why = f"a trial ends in {equivalence.described(error)}"
    if why is not None:
        if model.config._attn_implementation != before:
            model.set_attn_implementation(before)
        return None, why
    runner.forget()
    if isinstance(runner, LaneRunner) and len(truths) > 1:
        runner.leave(_BASE)
    return runner, None


def _ordinary(model: Any, running: Running) -> list[int]:
    """Tokens to try a model with; the first is its beginning-of-text token, if it has one."""
    config = model.config.get_text_config()
    size = min(model.get_input_embeddings().weight.shape[0], config.vocab_size)
    special = {getattr(config, f"{kind}_token_id", None) for kind in ("pad", "bos", "eos")}
    random = Random(0)
    ids = [i for i in random.sample(range(size), min(size, 96)) if i not in special]
    ids = [i for i in ids if i not in set(running.suppressed)] or [0]
    begin = getattr(config, "bos_token_id", None)
    return [begin if isinstance(begin, int) and 0 <= begin < size else ids[0], *ids]


def checkpoint_key(spec: ModelSpec, device: str, running: Running) -> dict[str, Any]:
    """Everything that the proof on a model's weights depends on."""
    names = ("tokenizer", "template", "prompt")  # these do not change the logits
    where = torch.device(device)
    return {
        "proof": "weights",
        "spec": {key: value for key, value in asdict(spec).items() if key not in names},
        "files": identity(spec.model, spec.revision),
        "adapter": identity(spec.adapter, None) if spec.adapter else None,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        "deterministic": running.deterministic,
        "may_batch": running.may_batch,
        "shares": running.shares,
        "versions": _versions(),
    }


def _as_found(loaded: LoadedModel, apart: str) -> LoadedModel:
    return loaded.alone(apart) if apart else loaded


def _versions() -> dict[str, str | None]:
    return {name: _version(name) for name in ("taketurns", "torch", "transformers", "peft")}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread. The copy's operations are so small that on a busy machine two threads, which
    wait for each other, take many times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _recorded(records: ProofRecords, key: dict[str, Any]) -> Found | None:
    """The recorded result; None without a valid record."""
    record = records.read(key)
    if record is None:
        return None
    try:
        way = record["way"]
        return Found(
            None if way is None else Way(way),
            dict(record["reasons"]),
            bool(record["copied"]),
            str(record["apart"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _without_paths(config: Any) -> Any:
    """A configuration without the keys that do not describe the architecture, such as its path."""
    if not isinstance(config, dict):
        return config
    skipped = {"_name_or_path", "transformers_version", "architectures", "_attn_implementation"}
    skipped |= {"dtype", "torch_dtype", "_attn_implementation_internal"}
    return {str(k): _without_paths(v) for k, v in config.items() if k not in skipped}


def check_usable(found: Found, name: str, spec: ModelSpec, architecture: str) -> Way:
    """The way that was found. Raises ConfigError if there is none."""
    if found.way is None:
        raise ConfigError(f"{name}: {refusal(spec.model, architecture, found.why)}")
    return found.way
