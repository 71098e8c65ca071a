"""The report of `taketurns check`: one record and one rendering for models in this process and on
servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from taketurns.engines.http.engine import ServerReport
    from taketurns.engines.http.requests import ServerCapabilities
    from taketurns.engines.local.memory import CacheSize

UNKNOWN_WAY = "found out when it is loaded"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model in this process. Bytes and parameters are None if no header could be read. `problem`
    is why the model cannot be used, None if it can. `unread_bytes` of its weights were not searched
    for NaN, because that would take long. `way` is how it is run between its turns, and `why` is
    why not in a faster way: from its last load, else from its architecture. `inexact` is why its
    answers may depend on the other answers in the batch, None if its kind gives no reason.
    `cache` is what the model keeps of an answer, nothing where it keeps no cache. Its rows share
    each forward with those of `in_forwards_with`, models on the same weights; `apart` is why they
    share none with such models, a clause."""

    COLUMNS: ClassVar = ("model", "weights", "precision", "context", "prompt", "between turns")

    name: str
    model: str
    device: str
    dtype: str
    parameters: int | None
    weight_bytes: int | None
    shares_weights: bool
    cache: CacheSize
    context: int
    prompt: str
    tokenizer: str
    problem: str | None = None
    inexact: str | None = None
    note: str | None = None
    unread_bytes: int = 0
    way: str = UNKNOWN_WAY
    why: str = ""
    in_forwards_with: tuple[str, ...] = ()
    apart: str = ""

    def rows(self) -> Iterator[tuple[str, ...]]:
        size = "shared" if self.shares_weights else readable(self.weight_bytes)
        precision = f"{self.dtype} on {self.device}"
        yield self.name, size, precision, str(self.context), self.prompt, self.way


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model and its servers. `problem` is why it cannot be used, None if it can."""

    COLUMNS: ClassVar = ("model", "server", "software", "called", "context", "prompts", "scores")

    name: str
    model: str
    servers: tuple[ServerReport, ...]
    problem: str | None

    def rows(self) -> Iterator[tuple[str, ...]]:
        for server in self.servers:
            yield self.name, server.url, *_capabilities(server.abilities)


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """The bytes that a device must hold, and those free on it now; `problem` is why the device
    cannot be used, None if it can."""

    device: str
    weight_bytes: int
    kv_bytes_per_answer: int
    free_bytes: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """`exact`: the hand-over is by token ids, otherwise by exact text; None if that is unknown,
    because a model cannot be used. `switcher` describes the switcher. `memory` is the memory for
    answers of `answer_tokens` tokens; both are None for models on servers."""

    models: tuple[LocalModel, ...] | tuple[ServedModel, ...]
    memory: tuple[MemoryReport, ...] | None
    answer_tokens: int | None
    exact: bool | None
    switcher: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        record = {"fits": self.fits, **asdict(self)}
        if self.memory is None:
            del record["memory"], record["answer_tokens"]
        return record

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=None, pad_edge=False)
        for column in self.models[0].COLUMNS:
            table.add_column(column, overflow="ellipsis" if self.memory is not None else "fold")
        for model in self.models:
            for row in model.rows():
                table.add_row(*row)
        yield table
        yield ""
        for part in self.memory or ():
            yield Text(
                f"memory    {readable(part.weight_bytes)} of weights and "
                f"{readable(part.kv_bytes_per_answer)} for each answer of {self.answer_tokens} "
                f"tokens with its prompt; {readable(part.free_bytes)} free on {part.device}"
            )
        if self.exact is not None:
            why = "" if self.memory is None else ", because the tokenizers differ"
            yield Text(f"hand-over {'token ids' if self.exact else f'exact text{why}'}")
        yield Text(f"switcher  {self.switcher}")
        yield from (Text(f"note      {note}", "yellow") for note in self.notes)
        yield from (Text(f"problem   {problem}", "red") for problem in self.problems)
        works, fails = ("works", "work") if self.memory is None else ("fits", "fit")
        yield Text(f"the team {works}" if self.fits else f"the team does not {fails}", "bold")


def readable(size: int | None) -> str:
    """A number of bytes with a unit, for display."""
    if size is None:
        return "unknown"
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.1f} {units[0]}" if units[0] != "B" else f"{size} B"


def _capabilities(server: ServerCapabilities | None) -> tuple[str, ...]:
    if server is None:
        return ("no answer", "", "", "", "")
    scores = "exact" if server.exact_scores else f"top {server.top_logprobs}"
    return (
        server.software,
        server.served_as,
        "unknown" if server.context is None else str(server.context),
        "token ids" if server.prompt_ids else "text",
        scores if server.exact_scores or server.top_logprobs else "none",
    )
