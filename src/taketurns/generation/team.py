"""A team of checkpoints takes turns writing one answer (arXiv 2510.09913, section 3).

`Team` holds the candidates, the switcher and the engine; `GenerationLoop` is the method.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import overload

from taketurns.config.policy import Policy
from taketurns.config.team_config import TeamConfig
from taketurns.engines.base import Engine
from taketurns.engines.factory import make_engine
from taketurns.errors import ConfigError, EngineError
from taketurns.generation import stopping
from taketurns.generation.formats.state import format_state
from taketurns.generation.guards import GuardCheck, GuardJudge, guard_check
from taketurns.generation.handover import CandidateRuntime, PromptOptions
from taketurns.generation.loop import GenerationLoop
from taketurns.generation.patch_writer import Emit
from taketurns.generation.sampling_options import check_options
from taketurns.generation.state import GenerationState
from taketurns.switchers.base import Decide, Switcher, make_ready, start
from taketurns.switchers.factory import make_switcher
from taketurns.switchers.folded import FoldedSwitcher
from taketurns.switchers.fusionroute import FusionRouteSwitcher
from taketurns.switchers.head import HeadSwitcher
from taketurns.switchers.lm import LMSwitcher, tagged_tokens
from taketurns.switchers.mentor import MentorSwitcher
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Candidate, Delta, Patch, Query, Trace
from taketurns.utils.seeds import derive
from taketurns.utils.sync import run_sync

SWITCHER = "(switcher)"
_QUESTION_TOKENS = 96  # an upper limit for the switcher's question


class Team:
    """Candidates, the switcher that selects the next of them, and the engine that runs them.

    with Team.load("team.yaml") as team:
        print(team.generate("How old was Ada Byron when the engine was built?").text)
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        engine: Engine,
        switcher: Switcher,
        policy: Policy | None = None,
        judge: Candidate | None = None,
    ) -> None:
        """`judge` is the model that the policy's guard asks, if any."""
        self.candidates = tuple(candidates)
        self.policy = policy or Policy()
        self.engine = engine
        self.judge = judge
        self._switcher = switcher
        self._judging: GuardJudge | None = None
        self._readers: tuple[CandidateRuntime, ...] | None = None

    @classmethod
    def load(cls, source: str | Path | TeamConfig, **overrides: object) -> Team:
        """A team from its file; "pocket" and "smol" are bundled teams. `overrides` change the
        policy (`patch_size=32`). Weights are loaded at first use. Raises ConfigError."""
        from taketurns.config.loading import change_policy, load_team_config

        config = (
            source if isinstance(source, TeamConfig) else load_team_config(source, dict(overrides))
        )
        if isinstance(source, TeamConfig) and overrides:
            config = replace(config, policy=change_policy(config.policy, overrides))
        models = list(config.writers_and_judge)
        if config.switcher.spec is not None:
            models.append(Candidate(SWITCHER, config.switcher.spec, config.switcher.endpoint))
        engine = make_engine(models, config.engine)
        switcher = make_switcher(config.switcher, SWITCHER)
        return cls(config.candidates, engine, switcher, config.policy, config.judge)

    def alone(self, name: str) -> Team:
        """A team of one candidate on the same engine. It writes the answer in one patch, without a
        guard. Raises ConfigError for an unknown name."""
        chosen = [candidate for candidate in self.candidates if candidate.name == name]
        if not chosen:
            known = ", ".join(candidate.name for candidate in self.candidates)
            raise ConfigError(f"there is no candidate {name!r}; the candidates are {known}")
        policy = replace(self.policy.without_rules(), patch_size=self.policy.max_tokens, patch=None)
        return Team(chosen, self.engine, FixedSwitcher([0]), policy)

    def verbatim(self) -> Team:
        """The same team, but its speakers continue a query's text itself, without a chat template
        or plain prompt."""
        bare = [
            replace(candidate, spec=replace(candidate.spec, prompt="{text}"))
            for candidate in self.candidates
        ]
        return Team(bare, self.engine, self._switcher, self.policy, self.judge)

    def switched_by(self, switcher: Switcher) -> Team:
        """The same team with another switcher. If the policy ends patches by the switcher and this
        switcher does not support that, patch lengths are random."""
        policy = self.policy if isinstance(switcher, HeadSwitcher) else self.policy.unfollowed
        return Team(self.candidates, self.engine, switcher, policy, self.judge)

    def ruled_by(self, policy: Policy) -> Team:
        """The same team with another policy."""
        return Team(self.candidates, self.engine, self._switcher, policy, self.judge)

    # Asking

    @overload
    def generate(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too; it comes first
        self, queries: str | Query, *, seed: int | None = None, policy: Policy | None = None
    ) -> Trace: ...

    @overload
    def generate(
        self,
        queries: Sequence[str | Query],
        *,
        seed: int | None = None,
        policy: Policy | None = None,
    ) -> list[Trace]: ...

    def generate(
        self,
        queries: str | Query | Sequence[str | Query],
        *,
        seed: int | None = None,
        policy: Policy | None = None,
    ) -> Trace | list[Trace]:
        """Answer one query, or several in one batch. For use outside coroutines; it also works in a
        notebook."""
        if isinstance(queries, str | Query):
            return run_sync(self.agenerate(_query(queries, 0), seed=seed, policy=policy))

        async def all_of_them() -> list[Trace]:
            asked = [_query(query, index) for index, query in enumerate(queries)]
            return list(
                await asyncio.gather(*(self.agenerate(q, seed=seed, policy=policy) for q in asked))
            )

        return run_sync(all_of_them())

    async def agenerate(
        self, query: str | Query, *, seed: int | None = None, policy: Policy | None = None
    ) -> Trace:
        """Answer one query. The draws depend on `seed` (the policy's by default) and the query's
        id.

        If the engine fails, the answer ends and the trace has the text so far and the error. Raises
        PromptError if the query does not fit.
        """
        return await self._write(_query(query, 0), seed, policy or self.policy, None)

    async def stream(
        self, query: str | Query, *, seed: int | None = None, policy: Policy | None = None
    ) -> AsyncGenerator[Delta | Patch | Trace, None]:
        """Answer one query and yield it while it is written: text as Deltas, each complete Patch,
        and the Trace last. Leaving the loop stops the models and frees the answer's memory."""
        queue: asyncio.Queue[Delta | Patch | None] = asyncio.Queue()
        writing = asyncio.create_task(
            self._write(_query(query, 0), seed, policy or self.policy, queue.put_nowait)
        )
        writing.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            yield await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    # Writing

    async def _write(
        self, query: Query, seed: int | None, policy: Policy, emit: Emit | None
    ) -> Trace:
        seed = policy.seed if seed is None else seed
        state = await self.draft(query, policy)
        try:
            async with self.answer(state, seed, policy, emit) as answer:
                await answer.write()
        except EngineError as error:
            return state.trace(seed, str(error))
        return state.trace(seed)

    async def draft(self, query: Query, policy: Policy | None = None) -> GenerationState:
        """The state of an answer before its first token. Raises PromptError if the query does not
        fit, ConfigError if the team does not support the policy's rule for patches or the format.
        """
        await self._prepared()
        return await asyncio.to_thread(self.blank, query, policy)

    def blank(
        self,
        query: Query,
        policy: Policy | None = None,
        prompts: PromptOptions | None = None,
    ) -> GenerationState:
        """`draft` of a team that is prepared; `prompts` says how the query becomes prompts. It
        reads all of the query, so where others wait, as in an event loop, it belongs in a
        thread."""
        assert self._readers is not None, "prepare() before blank()"
        policy = policy or self.policy
        policy.check_pool(len(self.candidates))
        models = [reader.info for reader in self._readers]
        answer_format = query.format or policy.format
        check_options(policy.sampling, models, formatted=answer_format is not None)
        place = format_state(answer_format, policy, models)
        # This refuses a query that is too long.
        state = GenerationState(
            query, self._readers, policy.stop, place, prompts=prompts, options=policy.sampling
        )
        if policy.patch is not None:
            decide = start(self._switcher, query, policy)
            stopping.check(policy.patch, decide, models)
        return state

    @asynccontextmanager
    async def answer(
        self,
        state: GenerationState,
        seed: int,
        policy: Policy | None = None,
        emit: Emit | None = None,
        logprobs: int | None = None,
    ) -> AsyncIterator[GenerationLoop]:
        """Open an answer for writing, patch by patch. `seed` and the query's id determine the
        draws. `emit` receives the answer's events, with `logprobs` as in `Sampling`.

        Raises EngineError, and PromptError if the query does not fit the switcher.
        """
        policy = policy or self.policy
        begin = partial(start, self._switcher, state.query, policy)

        def read_query() -> tuple[Decide, GuardCheck | None, int]:
            check = guard_check(state.query, policy, self._judging)
            return begin(), check, self.longest(state, policy)

        # The switcher and the judge also encode the whole query, which would block the event loop.
        decide, check, longest = await asyncio.to_thread(read_query)
        tokens, speakers = (derive(seed, state.query.id, what) for what in ("tokens", "speakers"))
        async with self.engine.session(tokens, longest) as session:
            models = [candidate.name for candidate in self.candidates]
            yield GenerationLoop(
                models=models,
                session=session,
                state=state,
                begin=begin,
                policy=policy,
                seed=speakers,
                emit=emit,
                logprobs=logprobs,
                check=check,
                choices=self._choices,
                begun=decide,
            )

    # Getting ready and letting go

    async def prepare(self) -> None:
        """Load every model now, the switcher's and the judge's too. Raises ConfigError or
        EngineError."""
        await self._prepared()
        names = [candidate.name for candidate in self.candidates]
        if isinstance(self._switcher, LMSwitcher | FusionRouteSwitcher):
            names.append(self._switcher.model)
        if self.judge is not None:
            names.append(self.judge.name)
        for name in names:
            await self.engine.load(name)

    async def check_prompt(self, query: Query, policy: Policy | None = None) -> None:
        """Raise PromptError if the query does not fit a candidate, the switcher or the judge."""
        policy = policy or self.policy
        await self.draft(query, policy)
        await asyncio.to_thread(start, self._switcher, query, policy)
        await asyncio.to_thread(guard_check, query, policy, self._judging)

    async def aclose(self) -> None:
        """Close the engine, for every team that shares it."""
        await self.engine.close()

    def close(self) -> None:
        """`aclose` for use outside coroutines."""
        run_sync(self.aclose())

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Team:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _prepared(self) -> tuple[CandidateRuntime, ...]:
        if self._readers is None:
            infos = [await self.engine.info(candidate.name) for candidate in self.candidates]
            await make_ready(self._switcher, self.engine, infos)
            if self.judge is not None:
                self._judging = await GuardJudge.prepared(self.judge, self.engine)
            self._readers = tuple(map(CandidateRuntime, self.candidates, infos))
        return self._readers

    @property
    def _choices(self) -> tuple[int, ...]:
        """The tokens by which a folded switcher decides after each patch; empty for others."""
        return self._switcher.tokens if isinstance(self._switcher, FoldedSwitcher) else ()

    def longest(self, state: GenerationState, policy: Policy) -> int:
        """The length in tokens of the longest prompt in an answer's session, the switcher's and the
        judge's prompts included."""
        tags = max(tagged_tokens(reader.info, policy) for reader in self._readers or ())
        question = _QUESTION_TOKENS
        if isinstance(self._switcher, MentorSwitcher):
            question += self._switcher.judge_tokens
        longest = state.longest_prompt + tags + question
        if isinstance(self._switcher, FusionRouteSwitcher):
            longest = max(longest, self._switcher.longest(state.query, policy))
        if self._judging is None or policy.guard is None:
            return longest
        return max(longest, self._judging.longest(policy.guard, state.query, policy.max_tokens))


def _query(query: str | Query, index: int) -> Query:
    return query if isinstance(query, Query) else Query(id=str(index), text=query)
