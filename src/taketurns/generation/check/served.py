"""Does a team on servers work? Asks every server what it can do; that generates only a token or
two."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from taketurns.config.team_config import TeamConfig
from taketurns.engines.http.engine import HttpEngine
from taketurns.errors import ConfigError, EngineError, PromptError
from taketurns.generation.check.report import CheckReport, ServedModel
from taketurns.generation.check.roles import describe_switcher, models_of
from taketurns.generation.team import SWITCHER, Team
from taketurns.types import Query


async def inspect_servers(config: TeamConfig) -> CheckReport:
    """Ask a team's servers. Raises ConfigError for a fault of the team file itself."""
    team = Team.load(config)
    engine = team.engine
    assert isinstance(engine, HttpEngine), "for a team whose engine is http"
    try:
        models = await asyncio.gather(
            *(_inspect(engine, name, spec.model) for name, spec in models_of(config))
        )
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
    return CheckReport(
        models=tuple(models),
        memory=None,
        answer_tokens=None,
        exact=exact,
        switcher=describe_switcher(config),
        problems=tuple(problems),
        notes=tuple(_notes(models, exact)),
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
                    f"{model.name}: {server.url} serves only the model "
                    f"{server.abilities.served_as}, which is used; set served_as to confirm it"
                )
        for server in model.servers:
            if server.abilities is None and model.problem is None:
                yield f"{model.name}: {server.url} is not used yet: {server.problem}"
        if any(not server.prompt_ids for server in able):
            yield f"{model.name}: its server reads text, so it tokenises prompts again"
        if any(not server.token_ids for server in able):
            yield (
                f"{model.name}: its server does not report token ids, so its text is tokenised "
                "here again, and the server's own sampling defaults stay in force; vLLM reports "
                "ids, and llama.cpp does since the middle of 2026"
            )
        if model.name == SWITCHER and any(not server.exact_scores for server in able):
            yield (
                "the switcher's server reports only the most probable tokens: a candidate whose "
                "number is not among them counts as impossible"
            )
    if exact is False:
        yield "the hand-over is by text, not by token ids"
