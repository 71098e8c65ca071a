"""One call of `taketurns experiment`: what was asked for, the answers, and the sections of them."""

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
from taketurns.evaluation.interventions.calibration import know
from taketurns.evaluation.interventions.conditions import Condition
from taketurns.evaluation.interventions.decisions import Decider, decision, usable
from taketurns.evaluation.interventions.effects import differences, effects, frequencies
from taketurns.evaluation.interventions.forcing import LENGTHS, Forcer
from taketurns.evaluation.interventions.invariance import Change, Values, signatures
from taketurns.evaluation.interventions.plan import Folder, InterventionJob
from taketurns.evaluation.interventions.retraining import retrain
from taketurns.evaluation.interventions.sections.calibration import render_calibration
from taketurns.evaluation.interventions.sections.effects import render_forced_effects
from taketurns.evaluation.interventions.sections.invariance import render_invariance
from taketurns.evaluation.interventions.sections.shapley import render_shapley
from taketurns.evaluation.interventions.shapley import Part, Study, parts, study
from taketurns.evaluation.report.section import Section, read_sections, write_section
from taketurns.evaluation.store import records
from taketurns.generation.team import Team
from taketurns.runs.records import trace_to_json
from taketurns.runs.runner import Failures
from taketurns.tasks.scorers.base import sound
from taketurns.training.labels.allocation import Uniform
from taketurns.training.labels.decision_points import DecisionPoint
from taketurns.training.labels.rollouts import RolloutGenerator
from taketurns.utils.extras import REPORT, require

Kind = Literal["sequences", "helpfulness", "decisions", "generalisation"]
OBSERVED = "effects"
KINDS: tuple[Kind, ...] = ("sequences", "helpfulness", "decisions", "generalisation")


@dataclass(frozen=True, slots=True)
class Made:
    """The sections that were written, and the records that failed."""

    sections: tuple[Section, ...]
    failures: Failures


def conduct(config: TeamConfig, plan: InterventionJob, out: Path, kinds: Sequence[Kind]) -> Made:
    """Ask what is missing in `out/experiments` and write the sections of these kinds.

    Raises UsageError for a team whose switcher has nothing to say, DataError for a folder of
    another run.
    """
    require("an experiment", *REPORT)
    if config.switcher.kind == "random":
        raise UsageError("experiments ask about a switcher, and this team's switches at random")
    conditions.replaced(config, plan.replaced)  # before anything is asked
    heads: Mapping[Part, Path] = {}
    if "helpfulness" in kinds and plan.labels is not None:
        pool = parts(len(config.candidates))
        heads = retrain(config, plan.labels, pool, out / "experiments" / "heads")
    folder = Folder(out / "experiments", plan.concurrency)
    (out / "sections").mkdir(exist_ok=True)  # this is an analysis folder, whoever comes next
    experiment = _Experiment(config, plan, out, folder, heads)
    with asyncio.Runner() as runner:
        made = runner.run(experiment.run(kinds))
    for section in made:
        write_section(out, section)
    return Made(tuple(made), experiment.failures)


@dataclass
class _Experiment:
    """The experiments on one team; `failures` are what could not be asked."""

    config: TeamConfig
    plan: InterventionJob
    out: Path
    folder: Folder
    heads: Mapping[Part, Path]
    failures: Failures = field(default_factory=Failures)
    _items: list[AnswerRequest] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [candidate.name for candidate in self.config.candidates]

    async def run(self, kinds: Sequence[Kind]) -> list[Section]:
        """Everything that needs the team's own models first, then the changed pools."""
        plan = self.plan
        self._items = [
            AnswerRequest(occasion.task, occasion.query, 0)
            for occasion in plan.occasions(plan.limit)
            if occasion.number == 0
        ]
        made = []
        async with Team.load(self.config) as team:
            if "sequences" in kinds:
                made.append(await self._sequences(team))
            if "decisions" in kinds:
                made.append(await self._decisions(team))
            if "helpfulness" in kinds:
                made.append(await self._helpfulness(team))
            if "generalisation" in kinds:
                switch = await self._answers(team, conditions.whole(self.config))
                chance = await self._answers(team, conditions.by_chance(self.config))
        if "generalisation" in kinds:
            made.append(await self._generalisation(switch, chance))
        return made

    async def _sequences(self, team: Team) -> Section:
        occasions = self.plan.occasions(self.plan.trials)
        forcer = Forcer(team)
        self.failures += await self.folder.fill(
            "sequences", "forcing sequences", self.config, occasions, _occasion_id, forcer.trial,
            concurrency=self.plan.concurrency // (2 * len(LENGTHS)) + 2,
            lengths=list(LENGTHS), split=self.plan.split,
        )  # fmt: skip
        found = self.folder.read("sequences", [one.id for one in occasions])
        pairs = differences(found.values())
        written: dict[str, list[list[int | None]]] = {"": []}
        for record in found.values():
            for group in ("", record["category"]):
                written.setdefault(group, []).append(record["written"])
        return render_forced_effects(
            self.names,
            len(found),
            {length: effects(pairs, length) for length in LENGTHS},
            {
                length: {group: frequencies(own, length) for group, own in written.items()}
                for length in LENGTHS
            },
            observed(self.out, self.names),
        )

    async def _decisions(self, team: Team) -> Section:
        plan = self.plan
        roller = RolloutGenerator(team, Uniform(plan.k), plan.concurrency)
        decider = Decider(team, roller)
        if plan.rollouts is not None:
            kept = _rolled_out(plan.rollouts, self.names)
            data = plan.rollouts.read_bytes()
            ids = [str(record["id"]) for record in kept]
            name = "decisions-" + sha256(data).hexdigest()[:12]
            self.failures += await self.folder.fill(
                name, "asking the switcher", self.config, kept, lambda one: str(one["id"]),
                decider.ask, rollouts=sha256(data).hexdigest(),
            )  # fmt: skip
            source = f"rollouts of {plan.rollouts.name}"
        else:
            occasions = plan.occasions(plan.prefixes)
            ids, name = [one.id for one in occasions], "decisions"
            self.failures += await self.folder.fill(
                name, "rolling out", self.config, occasions, _occasion_id, decider.measure,
                concurrency=plan.concurrency // (len(self.names) * plan.k) + 2,
                k=plan.k, traces=plan.traces, split=plan.split,
            )  # fmt: skip
            source = f"{plan.split} questions, {plan.k} {plan.traces} rollouts a branch"
        found = [decision(one, self.config.policy) for one in self.folder.read(name, ids).values()]
        if not found:
            why = f": {self.failures.first}" if self.failures else ""
            raise EngineError(f"no decision could be measured{why}")
        return render_calibration(self.names, know(found), source)

    async def _helpfulness(self, team: Team) -> Section:
        for task in self.plan.tasks:
            if len(task.queries(self.plan.split)) < 2:
                raise UsageError(f"task {task.name!r} has too few {self.plan.split} questions")
        pool = parts(len(self.names))
        studies: dict[str, Study] = {}
        renormalised = {
            part: await self._answers(team, conditions.of_part(self.config, part)) for part in pool
        }
        studies["renormalised"] = study(_by_part(renormalised))
        if self.heads:
            retrained = {part: renormalised[part] for part in pool if len(part) == 1}
            for part, path in self.heads.items():
                head = SwitcherConfig(kind="head", path=str(path))
                own = replace(self.config, switcher=head)
                condition = conditions.of_part(own, part, "retrained")
                retrained[part] = await self._answers(team, condition)
            studies["retrained"] = study(_by_part(retrained))
        return render_shapley(self.names, studies, self.plan.limit)

    async def _generalisation(self, switch: Values, chance: Values) -> Section:
        changes = [
            await self._changed("permuted", "each candidate in another's place, under its own name",
                                conditions.permuted(self.config)),
            await self._changed("renamed", "the same places, other names",
                                conditions.renamed(self.config)),
        ]  # fmt: skip
        for change in self.plan.replaced:
            other = conditions.replaced(self.config, [change])
            name = f"replaced-{sha256(change.encode()).hexdigest()[:8]}"
            who, _, model = change.partition("=")
            how = f"{Path(model).name or model} in place of {who}"
            changes.append(await self._changed(name, how, other, other_models=True))
        gain, found = signatures(switch, chance, changes)
        return render_invariance(gain, found, self.plan.limit)

    async def _changed(
        self, name: str, how: str, config: TeamConfig, *, other_models: bool = False
    ) -> Change:
        """The answers of the switcher in a changed pool, or why it will not decide there."""
        async with Team.load(config) as team:
            try:
                first = self._items[0]
                await team.agenerate(first.query)
            except UsageError as error:
                return Change(how, None, refused=str(error))
            switch = await self._answers(team, conditions.whole(config, name))
            chance = None
            if other_models:
                chance = await self._answers(team, conditions.by_chance(config, f"{name}-random"))
            return Change(how, switch, chance)

    async def _answers(self, team: Team, condition: Condition) -> Values:
        """Scores `[task][question][1]` of the plan's questions under a condition; an answer that
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

        name = f"answers-{condition.name}"
        self.failures += await self.folder.fill(
            name, f"answering: {condition.name}", condition.decided_by, self._items,
            lambda item: item.id, work, part=sorted(condition.part), by_chance=condition.by_chance,
        )  # fmt: skip
        found = self.folder.read(name, [item.id for item in self._items])
        values: dict[str, list[list[float]]] = {task.name: [] for task in self.plan.tasks}
        for item in self._items:
            record = found.get(item.id, {})
            values[item.task.name].append([float(record.get("score") or 0.0)])
        return values


def _rolled_out(path: Path, names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The records of a rollouts file. Raises DataError where there is none of this pool."""
    kept = [record for record in records(path) if usable(record)]
    if not kept:
        raise DataError(f"{path} has no rollouts, as taketurns rollout writes them")
    if any(record.get("candidates") != list(names) for record in kept):
        raise DataError(f"{path} has rollouts of other candidates than {', '.join(names)}")
    return kept


def observed(folder: Path, names: Sequence[str]) -> dict[tuple[int, ...], float]:
    """The effects of sequences by observation, where `taketurns analyze` has left those of the same
    candidates in the folder."""
    for section in read_sections(folder):
        if section.name == OBSERVED and section.data.get("pool") == list(names):
            return {
                tuple(one["sequence"]): one["effect"]
                for one in section.data["effects"]
                if one["effect"] is not None
            }
    return {}


def _by_part(values: Mapping[Part, Values]) -> dict[str, dict[Part, list[float]]]:
    tasks = next(iter(values.values()))
    return {
        task: {part: [one[0] for one in own[task]] for part, own in values.items()}
        for task in tasks
    }


def _occasion_id(occasion: DecisionPoint) -> str:
    return occasion.id


def to_json(made: Made) -> str:
    """What was found, for scripts: the data of every section by its name."""
    return json.dumps({section.name: section.data for section in made.sections})
