"""Select the server for a request.

Each answer has a home among the servers of a model, so that the home's prefix cache has its text.
The home is found by rendezvous hashing: if a server is added or removed, only its own answers move.
If the home is busy, the least loaded server gets the request; if all are busy, the request waits
for the first free one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext

from taketurns.engines.http.replicas import Replica
from taketurns.engines.http.time_limit import Allowance
from taketurns.utils.seeds import derive


class Unreachable(Exception):
    """No server is healthy, and none became healthy in time."""


class Router:
    """Selects among the servers of a model. `try_out` starts a trial of a server after its
    cooldown. If all servers have failed `hopeless` times in a row, requests do not wait."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        try_out: Callable[[Replica], None],
        hopeless: int,
    ) -> None:
        self.replicas = tuple(replicas)
        self._try_out = try_out
        self._hopeless = hopeless

    def order(self, key: int) -> list[Replica]:
        """The servers in the order of preference of an answer; the first is its home."""
        return sorted(self.replicas, key=lambda replica: derive(key, replica.url), reverse=True)

    async def acquire(
        self, key: int, tried: Collection[Replica], patience: float | Allowance
    ) -> Replica:
        """A server for a request, occupied until its `give_back`; one of those `tried` only if
        there is no other. Waits without limit for a busy server, and up to `patience` seconds for
        one that is not healthy; then raises Unreachable."""
        if not isinstance(patience, Allowance):
            patience = Allowance(patience, asyncio.get_running_loop().time)
        while True:
            for replica in self.replicas:
                if replica.open and replica.cooldown <= 0:
                    self._try_out(replica)
            healthy = [replica for replica in self.replicas if replica.healthy]
            wanted = [replica for replica in healthy if replica not in tried] or healthy
            if chosen := self.choose(key, wanted):
                chosen.take()
                return chosen
            times = [replica.cooldown for replica in self.replicas if replica.cooldown > 0]
            if not healthy:
                hopeless = all(replica.failures >= self._hopeless for replica in self.replicas)
                if patience.left <= 0 or hopeless:
                    raise Unreachable(self._why())
                times.append(patience.left)
            # A server may become healthy before one of the others is free.
            other = [r for r in self.replicas if r in wanted or r not in healthy]
            with nullcontext() if healthy else patience.spending():
                await self._change(other, min(times, default=None))

    def choose(self, key: int, replicas: Collection[Replica]) -> Replica | None:
        """The home if it is free, else the least loaded of `replicas`, which are healthy; None if
        all are busy."""
        free = [replica for replica in replicas if replica.free]
        if not free:
            return None
        home = next(replica for replica in self.order(key) if replica in replicas)
        return home if home.free else min(free, key=lambda replica: replica.busy)

    async def _change(self, replicas: Sequence[Replica], seconds: float | None) -> None:
        """Wait until one of the servers may be free or healthy, or the time is up."""
        future = asyncio.get_running_loop().create_future()
        for replica in replicas:
            replica.wait(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if future.done():  # pass the free place on to another waiting request
                for replica in replicas:
                    replica.wake()
            raise
        finally:
            future.cancel()

    def _why(self) -> str:
        return "; ".join(f"{r.url}: {r.last_fault or 'no answer'}" for r in self.replicas)
