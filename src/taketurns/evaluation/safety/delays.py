"""Waiting times of a reader: to the first text of a stream, and to the end of the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from taketurns.errors import EngineError
from taketurns.evaluation.safety.conditions import SafetyCondition
from taketurns.evaluation.safety.questions import SafetyQuestion
from taketurns.evaluation.stopwatch import CLOCKS, Clock
from taketurns.generation.team import Team
from taketurns.runs.output import JsonlOutput
from taketurns.types import Delta, Trace
from taketurns.utils.locks import lock_now


async def time_all(
    whole: Team,
    conditions: Sequence[SafetyCondition],
    asks: Sequence[SafetyQuestion],
    path: Path,
    clock: Clock,
    on_done: Callable[[], None],
) -> None:
    """Stream every question under every condition, one at a time, and store the seconds. The order
    of conditions rotates from question to question, so that a slow phase of the machine affects all
    of them alike."""
    now, warm = CLOCKS[clock], set[str]()
    teams = [(condition, condition.team(whole)) for condition in conditions]
    with lock_now(path), JsonlOutput(path) as output:
        for number, ask in enumerate(asks):
            turn = number % len(teams)
            for condition, team in teams[turn:] + teams[:turn]:
                identifier = f"{condition.name}/{ask.id}@{clock}"
                if identifier in output.kept:
                    continue
                if condition.name not in warm:
                    await _time(team, ask, now)  # warm up, not measured
                    warm.add(condition.name)
                output.write(
                    {"id": identifier, "arm": condition.name, **await _time(team, ask, now)}
                )
                on_done()


async def _time(team: Team, ask: SafetyQuestion, now: Callable[[], float]) -> dict[str, Any]:
    begun, first, tokens = now(), None, 0
    async for event in team.stream(ask.asked, seed=ask.seed):
        if isinstance(event, Delta) and event.text and first is None:
            first = now() - begun
        if isinstance(event, Trace):
            if event.error is not None:
                raise EngineError(event.error)
            tokens = event.tokens
    whole = now() - begun
    return {"first": whole if first is None else first, "whole": whole, "tokens": tokens}


def summary(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Medians over a condition's answers, in seconds."""
    return {key: round(median(record[key] for record in records), 5) for key in ("first", "whole")}
