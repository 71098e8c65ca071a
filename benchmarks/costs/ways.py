"""How the engine runs the models of a pool."""

from __future__ import annotations

import asyncio

from benchmarks.overhead.models import ModelPool


def extra_work(pool: ModelPool) -> str:
    """What the engine does again for models whose cache it cannot keep, as a sentence; empty if it
    keeps it. Raises ConfigError for models that it cannot run."""
    return asyncio.run(_extra_work(pool))


async def _extra_work(pool: ModelPool) -> str:
    engine, name = pool.engine(), pool.candidates[0].name
    try:
        await engine.load(name)
        running = engine.running(name)
        return "" if running.keeps_cache else f"the engine {running.way.costs}"
    finally:
        await engine.close()
