"""The simulated servers of a model, behind the HTTP engine's real router."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

import simpy

from taketurns.engines.http.replicas import Replica
from taketurns.engines.http.routing import Router
from taketurns.integrations.planning.server import SimulatedServer


class ServerPool:
    """The `servers` of one model, each with at most `limit` calls at a time. Counts the calls, and
    those that did not go to their home server (`away`)."""

    def __init__(
        self, env: simpy.Environment, name: str, servers: Sequence[SimulatedServer], limit: int
    ) -> None:
        self.servers = tuple(servers)
        self.calls = 0
        self.away = 0
        self._env = env
        replicas = [
            Replica(f"http://{name}-{index}:8000", limit, lambda: env.now)
            for index in range(len(servers))
        ]
        self._server_of = dict(zip(replicas, servers, strict=True))
        self._router = Router(replicas, lambda replica: None, hopeless=1)
        self._waiting: deque[simpy.Event] = deque()

    def acquire(self, key: int, home: int) -> Generator[simpy.Event, Any, Replica]:
        """A replica for a call with the routing key `key`, in use until `give_back`; waits in a
        queue while all are busy. `home` is the answer's own key."""
        while (replica := self._router.choose(key, self._router.replicas)) is None:
            turn = self._env.event()
            self._waiting.append(turn)
            yield turn
        replica.take()
        self.calls += 1
        self.away += replica is not self._router.order(home)[0]
        return replica

    def give_back(self, replica: Replica) -> None:
        """End a call, and let the next waiting call choose a replica."""
        replica.give_back()
        if self._waiting:
            self._waiting.popleft().succeed()

    def server(self, replica: Replica) -> SimulatedServer:
        return self._server_of[replica]
