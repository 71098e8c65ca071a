"""A simulated server with continuous batching, step by step.

A step writes one token of every running answer, and reads prompts within its budget of tokens. When
memory runs out, the answer that came last is preempted and read again later. This is vLLM's
scheduling, without pipelined steps, speculation and swapping.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, field
from typing import Any

import simpy

from taketurns.errors import UsageError
from taketurns.integrations.planning.blocks import Blocks
from taketurns.integrations.planning.costs import Costs

Process = Generator[simpy.Event, Any, None]
Compute = Callable[[float], Process]
"""Uses a core for some seconds; if cores are not limited, only the time passes."""


@dataclass(eq=False, slots=True)
class SimulatedCall:
    """A request: `write` tokens after a prompt of `prompt` tokens.

    Its first `shared` tokens are common to all streams of `model`, the tokens up to `stable` (None:
    all) to all calls of `stream`, and the rest belongs only to this call. When it is answered,
    `first` is the time of its first token, and `cached` the number of prompt tokens that were in
    the cache.
    """

    model: Hashable
    stream: Hashable
    prompt: int
    write: int
    done: simpy.Event
    stable: int | None = None
    shared: int = 0
    first: float | None = None
    cached: int = 0
    # State while a server processes the call:
    length: int = 0  # tokens to read: the prompt, and after a preemption also the written tokens
    missing: int = 0
    began: int = 0  # the step that wrote the first token after reading
    held: list[Hashable] = field(default_factory=list)
    nameless: int = 0
    turn: int = 0  # the number of preemptions; events that were planned before one are ignored

    def names(self, begin: int, tokens: int, block: int) -> list[Hashable]:
        """The names of the full blocks of its first `tokens`, from block `begin` on."""
        return [self._name(index, block) for index in range(begin, tokens // block)]

    def _name(self, index: int, block: int) -> Hashable:
        end = (index + 1) * block
        if end <= self.shared:
            return (self.model, index)
        if self.stable is None or end <= self.stable:
            return (self.model, self.stream, index)
        return (self.model, self.stream, self.stable, index)


class SimulatedServer:
    """Serves calls; `work` simulates the time of a computation. Counts steps, tokens and
    preemptions."""

    def __init__(self, env: simpy.Environment, costs: Costs, work: Compute) -> None:
        self.steps = 0
        self.busy = 0.0
        self.sequences = 0.0  # integrated over time
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.breaks = 0
        self._env = env
        self._costs = costs
        self._work = work
        self._blocks = Blocks(costs.cache // costs.block)
        self._front = simpy.Resource(env)
        self._waiting: deque[SimulatedCall] = deque()
        self._running: dict[SimulatedCall, None] = {}
        self._reading: dict[SimulatedCall, None] = {}
        self._context = 0
        self._ends: defaultdict[int, list[tuple[SimulatedCall, int]]] = defaultdict(list)
        self._grows: defaultdict[int, list[tuple[SimulatedCall, int]]] = defaultdict(list)
        self._idle: simpy.Event | None = None
        env.process(self._run())

    def serve(self, call: SimulatedCall) -> Process:
        """Accept a call and wait until it is answered. Raises UsageError if it can never fit."""
        whole = call.prompt + call.write
        if whole > self._blocks.capacity * self._costs.block or (
            not self._costs.chunked and whole > self._costs.budget
        ):
            raise UsageError(
                f"a call of {whole} tokens does not fit a server with room for "
                f"{self._costs.cache} tokens that reads {self._costs.budget} in a step: simulate "
                "shorter answers, or raise cache and budget of the costs"
            )
        yield from self._speak(self._costs.request)
        call.length = call.prompt
        self.prompt_tokens += call.prompt
        self._waiting.append(call)
        if self._idle is not None:
            self._idle.succeed()
            self._idle = None
        yield call.done

    def _speak(self, seconds: float) -> Process:
        """Use the front end, which handles one request at a time, concurrently with the steps."""
        if seconds > 0:
            with self._front.request() as turn:
                yield turn
                yield from self._work(seconds)

    def _run(self) -> Process:
        while True:
            if not self._waiting and not self._running:
                self._idle = self._env.event()
                yield self._idle
            self._grow()
            reads = self._fill()
            writing = len(self._running) - len(self._reading)
            seconds = self._costs.step(writing + len(reads), sum(reads.values()), self._context)
            began = self._env.now
            yield from self._work(seconds)
            self.busy += seconds
            self.sequences += len(self._running) * (self._env.now - began)
            self._finish(reads, writing)
            self.steps += 1

    # Before a step

    def _grow(self) -> None:
        """Take a block for each answer whose next token begins one."""
        for call, turn in self._grows.pop(self.steps, ()):
            while call.turn == turn and self._blocks.free < 1:
                self._preempt(next(reversed(self._running)))
            if call.turn == turn:
                self._blocks.take(1)
                call.nameless += 1
                self._grows[self.steps + self._costs.block].append((call, turn))

    def _fill(self) -> dict[SimulatedCall, int]:
        """The prompt tokens to read in this step; prompts that are partly read come first."""
        costs, reads = self._costs, dict[SimulatedCall, int]()
        writing = len(self._running) - len(self._reading)
        budget = costs.budget - writing
        for call in self._reading:
            if budget <= 0:
                break
            reads[call] = min(call.missing, budget)
            budget -= reads[call]
        while self._waiting and budget > 0 and len(self._running) < costs.sequences:
            call = self._waiting[0]
            # The last token is always read, because its logits are needed.
            cached = self._blocks.find(call.names(0, call.length - 1, costs.block))
            missing = call.length - len(cached) * costs.block
            if not costs.chunked and missing > budget:
                break
            self._blocks.hold(cached)
            needed = -(-call.length // costs.block) - len(cached)
            if self._blocks.free < needed:
                self._blocks.release(cached, 0)
                break
            self._blocks.take(needed)
            self._waiting.popleft()
            call.held, call.nameless, call.missing = cached, needed, missing
            if call.turn == 0:
                call.cached = len(cached) * costs.block
                self.cached_tokens += call.cached
            self._running[call] = self._reading[call] = None
            reads[call] = min(missing, budget)
            budget -= reads[call]
        return reads

    def _preempt(self, call: SimulatedCall) -> None:
        """Put an answer back into the queue; its prompt and written tokens must be read again."""
        if call in self._reading:
            del self._reading[call]
        else:
            since = self.steps - call.began
            self._context -= call.length + since - 1
            call.length += since
        del self._running[call]
        self._blocks.release(call.held, call.nameless)
        call.held, call.nameless = [], 0
        call.turn += 1
        self._waiting.appendleft(call)
        self.breaks += 1

    # After a step

    def _finish(self, reads: dict[SimulatedCall, int], writing: int) -> None:
        """Count the token that each answer got, and remove the complete answers."""
        block = self._costs.block
        self._context += writing
        ended = [call for call, turn in self._ends.pop(self.steps, ()) if call.turn == turn]
        firsts = []
        for call, read in reads.items():
            call.missing -= read
            if call.missing:
                continue
            del self._reading[call]
            self._name(call, call.length)
            call.began = self.steps
            firsts.append(call)
            left = call.write - (call.length - call.prompt) - 1
            self._context += call.length
            if left == 0:
                ended.append(call)
                continue
            self._ends[self.steps + left].append((call, call.turn))
            grows = 1 + -call.length % block
            if grows <= left:
                self._grows[self.steps + grows].append((call, call.turn))
        for call in ended:
            tokens = call.length + self.steps - call.began
            self._context -= tokens
            self._name(call, tokens)
            self._blocks.release(call.held, call.nameless)
            del self._running[call]
            call.turn += 1
        delivery = self._deliver(writing + len(firsts), firsts, ended)
        if self._costs.token > 0:
            self._env.process(delivery)
        else:
            deque(delivery, maxlen=0)

    def _name(self, call: SimulatedCall, tokens: int) -> None:
        """Name the blocks that the first `tokens` tokens fill, so that other calls find them."""
        names = call.names(len(call.held), tokens, self._costs.block)
        self._blocks.name(names)
        call.held += names
        call.nameless -= len(names)

    def _deliver(
        self, tokens: int, firsts: list[SimulatedCall], ended: list[SimulatedCall]
    ) -> Process:
        yield from self._speak(self._costs.token * tokens)
        for call in firsts:
            call.first = self._env.now if call.first is None else call.first
        for call in ended:
            call.done.succeed()
