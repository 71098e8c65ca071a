"""One call of `taketurns experiment`: the request, the records, and their sections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.errors import DataError, EngineError, UsageError
from taketurns.evaluation.asking import AnswerRequest
from taketurns.evaluation.interventions import conditions
from taketurns.evaluation.interventions.calibration import assess
from taketurns.evaluation.interventions.conditions import Condition
from taketurns.evaluation.interventions.decisions import (
    DecisionProber,
    decision_from_json,
    has_all_utilities,
)
from taketurns.evaluation.interventions.effects import differences, effects, frequencies
from taketurns.evaluation.interventions.forcing import LENGTHS, Forcer
from taketurns.evaluation.interventions.invariance import PoolChange, TaskScores, measure_invariance
from taketurns.evaluation.interventions.job import InterventionFolder, InterventionJob
from taketurns.evaluation.interventions.retraining import retrain
from taketurns.evaluation.interventions.sections.calibration import render_calibration
from taketurns.evaluation.interventions.sections.effects import render_forced_effects
from taketurns.evaluation.interventions.sections.invariance import render_invariance
from taketurns.evaluation.interventions.sections.shapley import render_shapley
from taketurns.evaluation.interventions.shapley import (
    Coalition,
    coalitions,
    study,
)
from taketurns.evaluation.report.section import Section, read_sections, write_section
from taketurns.evaluation.store import records
from taketurns.generation.team import Team
from taketurns.runs.records import trace_to_json
from taketurns.runs.runner import Failures
from taketurns.tasks.scorers.base import sound
from taketurns.training.labels.allocation import Uniform
from taketurns.training.labels.rollouts import RolloutGenerator
from taketurns.utils.extras import REPORT, require

InterventionKind = Literal["sequences", "helpfulness", "decisions", "generalisation"]
OBSERVED = "effects"
KINDS: tuple[InterventionKind, ...] = ("sequences", "helpfulness", "decisions", "generalisation")


@dataclass(frozen=True, slots=True)
class InterventionResults:
    """The sections that were written, and the records that failed."""

    sections: tuple[Section, ...]
    failures: Failures


def run_interventions(
    config: TeamConfig, job: InterventionJob, out: Path, kinds: Sequence[InterventionKind]
) -> InterventionResults:
    """Make the records that are missing in `out/experiments` and write the sections of these kinds.

    Raises UsageError for a team that switches at random, DataError for a folder of another run.
    """
    require("an experiment", *REPORT)
    if config.switcher.kind == "random":
        raise UsageError(
            f"experiments measure a trained switcher, and switcher.kind of "
            f"{config.source or 'this team'} is random: name a team with a trained one"
        )
    conditions.replaced(config, job.replaced)  # check the option before anything is asked
    heads: Mapping[Coalition, Path] = {}
    if "helpfulness" in kinds and job.labels is not None:
        pool = coalitions(len(config.candidates))
        heads = retrain(config, job.labels, pool, out / "experiments" / "heads")
    folder = InterventionFolder(out / "experiments", job.tasks, job.concurrency)
    (out / "sections").mkdir(exist_ok=True)  # marks this as an analysis folder
    with asyncio.Runner() as runner:
        sections = runner.run(_Session(config, job, out, folder, heads).run(kinds))
    for section in sections:
        write_section(out, section)
    return InterventionResults(tuple(sections), folder.failures)


@dataclass
class _Session:
    """The interventions on one team; `heads` are those that were retrained for coalitions."""

    config: TeamConfig
    job: InterventionJob
    out: Path
    folder: InterventionFolder
    heads: Mapping[Coalition, Path]
    _items: list[AnswerRequest] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [candidate.name for candidate in self.config.candidates]

    async def run(self, kinds: Sequence[InterventionKind]) -> list[Section]:
        """First everything that needs the team's own models, then the changed pools."""
        job = self.job
        self._items = [
            AnswerRequest(point.task, point.query, 0)
            for point in job.decision_points(job.limit)
            if point.number == 0
        ]
        sections = []
        async with Team.load(self.config) as team:
            if "sequences" in kinds:
                sections.append(await self._sequences(team))
            if "decisions" in kinds:
                sections.append(await self._decisions(team))
            if "helpfulness" in kinds:
                sections.append(await self._helpfulness(team))
            if "generalisation" in kinds:
                switch = await self._answers(team, conditions.whole(self.config))
                chance = await self._answers(team, conditions.by_chance(self.config))
        if "generalisation" in kinds:
            sections.append(await self._generalisation(switch, chance))
        return sections

    async def _sequences(self, team: Team) -> Section:
        job = self.job
        trials = await self.folder.fill(
            "sequences", "forcing sequences", self.config,
            job.decision_points(job.trials), Forcer(team).trial,
            concurrency=job.concurrency // (2 * len(LENGTHS)) + 2,
            lengths=list(LENGTHS), split=job.split,
        )  # fmt: skip
        pairs = differences(trials.values())
        written: dict[str, list[list[int | None]]] = {"": []}
        for record in trials.values():
            for group in ("", record["category"]):
                written.setdefault(group, []).append(record["written"])
        return render_forced_effects(
            self.names,
            len(trials),
            {length: effects(pairs, length) for length in LENGTHS},
            {
                length: {group: frequencies(answers, length) for group, answers in written.items()}
                for length in LENGTHS
            },
            observed(self.out, self.names),
        )

    async def _decisions(self, team: Team) -> Section:
        job = self.job
        prober = DecisionProber(team, RolloutGenerator(team, Uniform(job.k), job.concurrency))
        if job.rollouts is not None:
            digest = sha256(job.rollouts.read_bytes()).hexdigest()
            measured = await self.folder.fill(
                f"decisions-{digest[:12]}", "asking the switcher", self.config,
                _rolled_out(job.rollouts, self.names), prober.ask,
                key=lambda record: str(record["id"]), rollouts=digest,
            )  # fmt: skip
            source = f"rollouts of {job.rollouts.name}"
        else:
            measured = await self.folder.fill(
                "decisions", "rolling out", self.config,
                job.decision_points(job.prefixes), prober.measure,
                concurrency=job.concurrency // (len(self.names) * job.k) + 2,
                k=job.k, traces=job.traces, split=job.split,
            )  # fmt: skip
            source = f"{job.split} questions, {job.k} {job.traces} rollouts a branch"
        if not measured:
            failures = self.folder.failures
            why = f"; the first error: {failures.first}" if failures else ""
            raise EngineError(
                f"none of the decisions could be measured ({failures.count} failed){why}"
            )
        policy = self.config.policy
        decisions = [decision_from_json(record, policy) for record in measured.values()]
        return render_calibration(self.names, assess(decisions), source)

    async def _helpfulness(self, team: Team) -> Section:
        for task in self.job.tasks:
            if len(task.queries(self.job.split)) < 2:
                raise UsageError(
                    f"task {task.name!r} has {len(task.queries(self.job.split))} "
                    f"{self.job.split} questions, and this experiment needs at least 2: add "
                    "questions, or leave the task out"
                )
        pool = coalitions(len(self.names))
        renormalised = {
            coalition: await self._answers(team, conditions.of_coalition(self.config, coalition))
            for coalition in pool
        }
        studies = {"renormalised": study(_by_coalition(renormalised))}
        if self.heads:
            retrained = {alone: renormalised[alone] for alone in pool if len(alone) == 1}
            for coalition, path in self.heads.items():
                head = SwitcherConfig(kind="head", path=str(path))
                with_head = replace(self.config, switcher=head)
                condition = conditions.of_coalition(with_head, coalition, "retrained")
                retrained[coalition] = await self._answers(team, condition)
            studies["retrained"] = study(_by_coalition(retrained))
        return render_shapley(self.names, studies, self.job.limit)

    async def _generalisation(self, switch: TaskScores, chance: TaskScores) -> Section:
        changes = [
            await self._changed("permuted", "candidates in another order, same names",
                                conditions.permuted(self.config)),
            await self._changed("renamed", "candidates in the same order, other names",
                                conditions.renamed(self.config)),
        ]  # fmt: skip
        for change in self.job.replaced:
            other = conditions.replaced(self.config, [change])
            name = f"replaced-{sha256(change.encode()).hexdigest()[:8]}"
            who, _, model = change.partition("=")
            how = f"{Path(model).name or model} in place of {who}"
            changes.append(await self._changed(name, how, other, other_models=True))
        gain, results = measure_invariance(switch, chance, changes)
        return render_invariance(gain, results, self.job.limit)

    async def _changed(
        self, name: str, how: str, config: TeamConfig, *, other_models: bool = False
    ) -> PoolChange:
        """The scores of the switcher in a changed pool, or why it refuses the pool."""
        async with Team.load(config) as team:
            try:
                await team.agenerate(self._items[0].query)
            except UsageError as error:
                return PoolChange(how, None, refused=str(error))
            switch = await self._answers(team, conditions.whole(config, name))
            chance = None
            if other_models:
                chance = await self._answers(team, conditions.by_chance(config, f"{name}-random"))
            return PoolChange(how, switch, chance)

    async def _answers(self, team: Team, condition: Condition) -> TaskScores:
        """Scores `[task][question][1]` of the job's questions under a condition; an answer that
        failed counts as wrong."""
        answering = condition.on(team)
        names = [candidate.name for candidate in answering.candidates]

        async def work(item: AnswerRequest) -> dict[str, Any]:
            trace = await answering.agenerate(item.query)
            if trace.error is not None:
                raise EngineError(trace.error)
            score = sound(item.task.score(item.query, trace.text))
            return {
                **trace_to_json(trace, names),
                "id": item.id,
                "task": item.task.name,
                "score": score.value,
                "answer": score.answer,
            }

        answers = await self.folder.fill(
            f"answers-{condition.name}", f"answering: {condition.name}", condition.decided_by,
            self._items, work, part=sorted(condition.coalition), by_chance=condition.by_chance,
        )  # fmt: skip
        scores: dict[str, list[list[float]]] = {task.name: [] for task in self.job.tasks}
        for item in self._items:
            record = answers.get(item.id, {})
            scores[item.task.name].append([float(record.get("score") or 0.0)])
        return scores


def _rolled_out(path: Path, names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The records of a file of rollouts. Raises DataError if it has none of this pool."""
    kept = [record for record in records(path) if has_all_utilities(record)]
    if not kept:
        raise DataError(
            f"{path} has no record of rollouts with a utility for every candidate: make one with "
            "taketurns rollout"
        )
    for record in kept:
        if record.get("candidates") != list(names):
            theirs = ", ".join(map(str, record.get("candidates") or ()))
            raise DataError(
                f"{path}, record {record['id']}: its candidates are {theirs}, those of the team "
                f"are {', '.join(names)}; make rollouts with this team"
            )
    return kept


def observed(folder: Path, names: Sequence[str]) -> dict[tuple[int, ...], float]:
    """The observed effects of sequences, if `taketurns analyze` has written those of the same
    candidates into the folder; otherwise empty."""
    for section in read_sections(folder):
        if section.name == OBSERVED and section.data.get("pool") == list(names):
            return {
                tuple(sequence["sequence"]): sequence["effect"]
                for sequence in section.data["effects"]
                if sequence["effect"] is not None
            }
    return {}


def _by_coalition(
    scores: Mapping[Coalition, TaskScores],
) -> dict[str, dict[Coalition, list[float]]]:
    """`[task][coalition][question]`."""
    return {
        task: {
            coalition: [score for (score,) in by_task[task]]
            for coalition, by_task in scores.items()
        }
        for task in next(iter(scores.values()))
    }


def to_json(results: InterventionResults) -> str:
    """The data of every section by its name, as JSON for scripts."""
    return json.dumps({section.name: section.data for section in results.sections})
