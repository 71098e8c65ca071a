"""Will a team on servers work? Asks every server what it can do; nothing is generated but a token
or two."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from taketurns.config.team_config import TeamConfig
from taketurns.engines.http.engine import HttpEngine, ServerReport
from taketurns.engines.http.requests import ServerCapabilities
from taketurns.errors import ConfigError, EngineError, PromptError
from taketurns.generation.check.local import describe_switcher
from taketurns.generation.team import SWITCHER, Team
from taketurns.types import Query


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model and its servers. `problem` is why it cannot be used, None where it can."""

    name: str
    model: str
    servers: tuple[ServerReport, ...]
    problem: str | None


@dataclass(frozen=True, slots=True)
class ServedReport:
    """`exact`: token ids are handed from speaker to speaker, otherwise the exact text; None where
    that cannot be known, since a model cannot be used."""

    models: tuple[ServedModel, ...]
    exact: bool | None
    switcher: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {"fits": self.fits, **asdict(self)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=None, pad_edge=False)
        for column in ("model", "server", "software", "called", "context", "prompts", "scores"):
            table.add_column(column, overflow="fold")
        for model in self.models:
            for server in model.servers:
                table.add_row(model.name, server.url, *_row(server.abilities))
        yield table
        yield ""
        if self.exact is not None:
            handed = "token ids" if self.exact else "exact text"
            yield Text(f"hand-over {handed}")
        yield Text(f"switcher  {self.switcher}")
        yield from (Text(f"note      {note}", "yellow") for note in self.notes)
        yield from (Text(f"problem   {problem}", "red") for problem in self.problems)
        yield Text("it works" if self.fits else "it does not work", "bold")


async def inspect_servers(config: TeamConfig) -> ServedReport:
    """Ask a team's servers. Raises ConfigError where the team file itself is at fault."""
    team = Team.load(config)
    engine = team.engine
    assert isinstance(engine, HttpEngine), "for a team whose engine is http"
    parts = [(candidate.name, candidate.spec.model) for candidate in config.candidates]
    if config.switcher.spec is not None:
        parts.append((SWITCHER, config.switcher.spec.model))
    if config.judge is not None and config.judge not in config.candidates:
        parts.append((config.judge.name, config.judge.spec.model))
    try:
        models = await asyncio.gather(*(_inspect(engine, *part) for part in parts))
        problems = [model.problem for model in models if model.problem is not None]
        exact = None
        if not problems:
            try:
                exact = (await team.draft(Query(id="check", text="?"))).exact
                await team.check_prompt(Query(id="check", text="?"))
            except (PromptError, ConfigError) as error:
                problems.append(str(error))
    finally:
        await team.aclose()
    switcher = describe_switcher(config)
    return ServedReport(
        tuple(models), exact, switcher, tuple(problems), tuple(_notes(models, exact))
    )


async def _inspect(engine: HttpEngine, name: str, model: str) -> ServedModel:
    servers = await engine.inspect(name)
    try:
        await engine.info(name)
    except (ConfigError, EngineError) as error:
        return ServedModel(name, model, tuple(servers), str(error))
    return ServedModel(name, model, tuple(servers), None)


def _notes(models: Sequence[ServedModel], exact: bool | None) -> Iterator[str]:
    for model in models:
        able = [server.abilities for server in model.servers if server.abilities is not None]
        for server in model.servers:
            if server.abilities is not None and server.abilities.only:
                yield (
                    f"{model.name}: {server.url} calls its one model {server.abilities.served_as}, "
                    "which was taken for it; set served_as to be sure"
                )
        for server in model.servers:
            if server.abilities is None and model.problem is None:
                yield f"{model.name}: {server.url} is not used yet: {server.problem}"
        if any(not one.prompt_ids for one in able):
            yield f"{model.name}: its server reads text, so prompts are tokenised there anew"
        if any(not one.token_ids for one in able):
            yield (
                f"{model.name}: its server does not report token ids, so its text is tokenised "
                "here anew, and its own sampling defaults stay in force; vLLM reports them, and "
                "llama.cpp since the middle of 2026"
            )
        if model.name == SWITCHER and any(not one.exact_scores for one in able):
            yield (
                "the switcher's server reports only the most probable tokens: a candidate whose "
                "number is not among them counts as impossible"
            )
    if exact is False:
        yield "not exact: speakers are handed the text and not the tokens"


def _row(abilities: ServerCapabilities | None) -> tuple[str, ...]:
    if abilities is None:
        return ("no answer", "", "", "", "")
    scores = "exact" if abilities.exact_scores else f"top {abilities.top_logprobs}"
    return (
        abilities.software,
        abilities.served_as,
        "unknown" if abilities.context is None else str(abilities.context),
        "token ids" if abilities.prompt_ids else "text",
        scores if abilities.exact_scores or abilities.top_logprobs else "none",
    )
