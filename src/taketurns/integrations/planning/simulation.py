"""A discrete-event simulation of a team on replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import simpy

from taketurns.errors import UsageError
from taketurns.integrations.planning.deployment import Deployment
from taketurns.integrations.planning.pool import ServerPool
from taketurns.integrations.planning.result import AnswerTiming, SimulationResult
from taketurns.integrations.planning.server import Process, SimulatedCall, SimulatedServer
from taketurns.integrations.planning.workload import SimulatedAnswer
from taketurns.utils.seeds import derive, generator


def simulate(
    deployment: Deployment,
    answers: Sequence[SimulatedAnswer],
    *,
    arrivals: Sequence[float] | None = None,
    at_a_time: int | None = None,
    seed: int = 0,
    on_done: Callable[[], None] | None = None,
) -> SimulationResult:
    """Simulate `answers` that arrive at the times `arrivals` (seconds), or of which `at_a_time` are
    written concurrently. Equal arguments give equal results. Raises UsageError for an answer that
    the deployment cannot write, ValueError unless exactly one of the two is given."""
    if (arrivals is None) == (at_a_time is None):
        raise ValueError("either arrivals or at_a_time")
    speakers = max((speaker for answer in answers for speaker, _ in answer.turns), default=0)
    if speakers >= deployment.candidates:
        raise UsageError(
            f"an answer has a patch by candidate {speakers}, but the deployment has only "
            f"{deployment.candidates} candidates, counted from 0: raise --candidates"
        )
    simulation = _Simulation(deployment, seed, on_done)
    if arrivals is not None:
        for index, (answer, time) in enumerate(zip(answers, arrivals, strict=True)):
            simulation.env.process(simulation.arrive(index, answer, time))
    else:
        queue = iter(list(enumerate(answers)))
        for _ in range(at_a_time or 0):
            simulation.env.process(simulation.work_off(queue))
    simulation.env.run()
    return simulation.result()


class _Simulation:
    def __init__(
        self, deployment: Deployment, seed: int, on_done: Callable[[], None] | None
    ) -> None:
        self.env = simpy.Environment()
        self._deployment = deployment
        self._costs = deployment.costs
        self._seed = seed
        self._on_done = on_done
        self._spans: list[AnswerTiming] = []
        cores = deployment.cores
        self._cores = None if cores is None else simpy.Resource(self.env, cores)
        self._clients = simpy.Resource(self.env, deployment.clients)
        self._pools = [
            self._pool(f"candidate-{index}", deployment.replicas)
            for index in range(deployment.candidates)
        ]
        self._switcher: ServerPool | None = None
        if deployment.switcher == "lm":
            number = deployment.switcher_replicas or deployment.replicas
            self._switcher = self._pool("switcher", number)
        elif deployment.switcher == "adapter":
            self._switcher = self._pools[-1]

    def _pool(self, name: str, replicas: int) -> ServerPool:
        servers = [SimulatedServer(self.env, self._costs, self._work) for _ in range(replicas)]
        return ServerPool(self.env, name, servers, self._deployment.concurrency)

    def _work(self, seconds: float) -> Process:
        if self._cores is None:
            yield self.env.timeout(seconds)
            return
        with self._cores.request() as core:
            yield core
            yield self.env.timeout(seconds)

    def arrive(self, index: int, answer: SimulatedAnswer, time: float) -> Process:
        yield self.env.timeout(time)
        yield from self._write(index, answer)

    def work_off(self, queue: Iterator[tuple[int, SimulatedAnswer]]) -> Process:
        for index, answer in queue:
            yield from self._write(index, answer)

    def _write(self, index: int, answer: SimulatedAnswer) -> Process:
        """The team's loop: ask the switcher for the next speaker, then the speaker for a patch."""
        routing = _Routing(derive(self._seed, "home", index), self._deployment.sticky)
        shared = min(self._deployment.shared, answer.prompt)
        written, tagged = 0, answer.prompt
        begun = last = self.env.now
        first: float | None = None
        pauses: list[float] = []
        for speaker, tokens in answer.turns:
            if self._switcher is not None:
                # One token for its probabilities; the next prompt does not include the question.
                asked = tagged + self._deployment.question
                call = SimulatedCall("switcher", index, asked, 1, self.env.event(), tagged, shared)
                yield from self._ask(self._switcher, call, routing)
            prompt = answer.prompt + written
            call = SimulatedCall(speaker, index, prompt, tokens, self.env.event(), shared=shared)
            yield from self._ask(self._pools[speaker], call, routing)
            assert call.first is not None
            arrived = call.first + self._costs.network
            first = arrived if first is None else first
            pauses.append(arrived - last)
            last = self.env.now
            written += tokens
            tagged += tokens + self._deployment.tags
        assert first is not None, "an answer has at least one turn"
        span = AnswerTiming(index, begun, first, last, answer.tokens, tuple(pauses[1:]))
        self._spans.append(span)
        if self._on_done is not None:
            self._on_done()

    def _ask(self, pool: ServerPool, call: SimulatedCall, routing: _Routing) -> Process:
        replica = yield from pool.acquire(routing.key(), routing.home)
        if self._costs.client > 0:
            with self._clients.request() as turn:
                yield turn
                yield from self._work(self._costs.client)
        yield self.env.timeout(self._costs.network)
        yield from pool.server(replica).serve(call)
        yield self.env.timeout(self._costs.network)
        pool.give_back(replica)

    def result(self) -> SimulationResult:
        pools = list(self._pools)
        if self._switcher is not None and self._switcher not in pools:
            pools.append(self._switcher)
        servers = [server for pool in pools for server in pool.servers]
        return SimulationResult(
            deployment=self._deployment,
            spans=tuple(sorted(self._spans, key=lambda span: span.index)),
            requests=sum(pool.calls for pool in pools),
            away=sum(pool.away for pool in pools),
            prompt_tokens=sum(server.prompt_tokens for server in servers),
            cached_tokens=sum(server.cached_tokens for server in servers),
            busy=tuple(server.busy for server in servers),
            sequences=sum(server.sequences for server in servers),
            breaks=sum(server.breaks for server in servers),
        )


class _Routing:
    """The routing keys of an answer's calls: a share `sticky` of them goes to its home server."""

    def __init__(self, home: int, sticky: float) -> None:
        self.home = home
        self._sticky = sticky
        self._random = generator(derive(home, "strays"))

    def key(self) -> int:
        """The key of the next call."""
        if self._random.random() < self._sticky:
            return self.home
        return int(self._random.integers(2**62))
