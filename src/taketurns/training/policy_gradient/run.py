"""One policy-gradient run: it trains a team's switcher further, on reward.

Every step ends with a checkpoint, and its questions and draws depend only on its number, so a
killed run continues from the last complete step and ends in the same switcher.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from taketurns.config.policy import Policy
from taketurns.config.team_config import TeamConfig
from taketurns.config.team_file import team_yaml
from taketurns.errors import UsageError
from taketurns.runs.description import describe_run
from taketurns.runs.folder import RunFolder
from taketurns.runs.manifest import Manifest
from taketurns.runs.progress import Progress
from taketurns.runs.records import SAMPLE, encode_record, query_to_json, sample_questions
from taketurns.tasks.base import Task
from taketurns.tasks.own_parts import own_parts
from taketurns.training import SWITCHER_SCHEMA
from taketurns.training.card import SWITCHER, write_card
from taketurns.training.labels.decision_points import training_queries
from taketurns.training.policy_gradient.objective import Batch
from taketurns.training.policy_gradient.sampling import Actor, Question, RewardedAnswer, Sampler
from taketurns.training.policy_gradient.settings import PolicyGradientConfig
from taketurns.utils.files import atomic_folder, write_bytes, write_text
from taketurns.utils.seeds import derive

STATE = "state.json"


class Learner(Protocol):
    """A switcher that is being trained."""

    async def actor(self) -> Actor:
        """The team with the current switcher."""
        ...

    async def close(self) -> None:
        """Release the models."""
        ...

    def learn(self, batch: Batch, config: PolicyGradientConfig) -> None:
        """Update the switcher on one batch of decisions. Raises NotANumberError if it diverges."""
        ...

    def export(self, folder: Path) -> None:
        """Write the current switcher."""
        ...

    def entry(self, folder: Path) -> dict[str, Any]:
        """The switcher's entry for a team file in `folder`, the folder of the export."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `restore` needs."""
        ...

    def restore(self, folder: Path) -> None:
        """Continue from what `save` wrote."""
        ...


@dataclass(frozen=True, slots=True)
class QuestionSplit:
    """The questions for training, by task, and those that choose the step; none is in both."""

    train: Mapping[str, tuple[Question, ...]]
    validation: tuple[Question, ...]

    @classmethod
    def of(cls, tasks: Sequence[Task], config: PolicyGradientConfig) -> QuestionSplit:
        """A split of the tasks' train questions; each task holds out `config.checked`. Raises
        UsageError if a task has too few, DataError if train questions repeat or occur in dev or
        test."""
        train, validation = {}, []
        asked = training_queries(tasks)
        for task in tasks:
            ranked = sorted(
                asked[task.name], key=lambda query: derive(config.seed, "practice", query.id)
            )
            if len(ranked) <= config.checked:
                raise UsageError(
                    f"task {task.name!r} has {len(ranked)} train questions, and {config.checked} "
                    "are held out for choosing the step, so none is left for training: lower "
                    "--checked, or add train questions"
                )
            validation += [Question(task, query) for query in ranked[: config.checked]]
            train[task.name] = tuple(Question(task, query) for query in ranked[config.checked :])
        return cls(train, tuple(validation))

    def of_step(self, step: int, count: int) -> list[Question]:
        """The `count` questions of a step (from 0): the tasks take turns, each in its own order."""
        names = list(self.train)
        questions = []
        for number in range(step * count, (step + 1) * count):
            turn, place = divmod(number, len(names))
            pool = self.train[names[place]]
            questions.append(pool[turn % len(pool)])
        return questions

    def write(self, path: Path) -> None:
        """Write one line per question that chooses the step. Raises OSError."""
        records = ({"id": x.query.id, "task": x.task.name} for x in self.validation)
        write_bytes(path, map(encode_record, records))


def train_on_reward(
    team: TeamConfig,
    tasks: Sequence[Task],
    output: Path,
    config: PolicyGradientConfig,
    say: Callable[[str], None] = lambda sentence: None,
) -> Mapping[str, Any]:
    """Train the team's switcher on reward, write it to `output` and return its metrics.

    A killed run continues; a finished one is left unchanged. `say` receives messages for the user.
    Raises UsageError for a team whose switcher cannot be trained, DataError for an output of
    another run, NotANumberError if training diverges.
    """
    for name in config.prices:
        if name not in (names := [candidate.name for candidate in team.candidates]):
            raise UsageError(
                f"there is no candidate {name!r} to set a price for; the candidates are "
                f"{', '.join(names)}"
            )
    split, learner = QuestionSplit.of(tasks, config), _learner(team, config)
    folder = RunFolder(output, _manifest(team, split, config), first="checked.jsonl")
    with folder.open(split.write):
        if (done := folder.metrics) is not None:
            say(f"{output} is finished; nothing to do")
            return done
        return asyncio.run(_Run(team, learner, split, folder, config, say).run())


def _learner(team: TeamConfig, config: PolicyGradientConfig) -> Learner:
    if team.switcher.kind == "head":
        from taketurns.training.policy_gradient.head import HeadLearner

        return HeadLearner.of(team, config.learning_rate)
    if team.switcher.kind == "lm":
        from taketurns.training.policy_gradient.lm import LMLearner

        return LMLearner(team, config.learning_rate)
    raise UsageError(
        f"the team's switcher is of kind {team.switcher.kind}, and policy gradient needs a trained "
        "switcher to start from: train one from labels first and give its team file"
    )


def _manifest(team: TeamConfig, split: QuestionSplit, config: PolicyGradientConfig) -> Manifest:
    asked = [x.query for questions in split.train.values() for x in questions]
    data = b"".join(encode_record(query_to_json(query)) for query in asked)
    settings = {key: value for key, value in asdict(config).items() if key != "under_way"}
    manifest = describe_run("practise", team, data, tasks=list(split.train))
    tasks = {x.task.name: x.task for questions in split.train.values() for x in questions}
    return manifest.with_inputs(practice=settings, **own_parts(tasks.values()))


class _Run:
    """The loop and its state."""

    def __init__(
        self,
        team: TeamConfig,
        learner: Learner,
        split: QuestionSplit,
        folder: RunFolder,
        config: PolicyGradientConfig,
        say: Callable[[str], None],
    ) -> None:
        self._team = team
        self._learner = learner
        self._split = split
        self._folder = folder
        self._config = config
        self._say = say
        self._sampler = Sampler([candidate.name for candidate in team.candidates], config)
        self._steps: list[dict[str, float]] = []
        self._checks: list[dict[str, Any]] = []
        self._seconds = 0.0

    async def run(self) -> Mapping[str, Any]:
        """Train until the last step, then write the best one; the metrics."""
        self._restore()
        try:
            began = time.monotonic() - self._seconds
            with Progress("training on reward", self._config.steps, len(self._steps)) as progress:
                if not self._checks:
                    await self._check()
                while len(self._steps) < self._config.steps:
                    await self._step()
                    step = len(self._steps)
                    if step % self._config.check_every == 0 or step == self._config.steps:
                        await self._check()
                    self._seconds = time.monotonic() - began
                    self._keep()
                    progress.advance()
        finally:
            await self._learner.close()
        return self._finish()

    async def _step(self) -> None:
        """Sample answers, score them and update the switcher."""
        number, config = len(self._steps), self._config
        # Speakers are drawn without top-p: one that is cut off could never be reinforced.
        policy = replace(self._team.policy, top_p=1.0, greedy_switcher=False)
        questions = self._split.of_step(number, config.questions)
        seeds = [derive(config.seed, "step", number, place) for place in range(len(questions))]
        groups = await self._groups(questions, seeds, config.answers, policy)
        batch = Batch.of(groups)
        if len(batch):
            self._learner.learn(batch, config)
        self._steps.append({"step": number + 1, **_summary([a for group in groups for a in group])})

    async def _check(self) -> None:
        """Measure the switcher on the validation questions under the team's policy; export it if it
        is the best so far."""
        questions = self._split.validation
        seeds = [derive(self._config.seed, "check")] * len(questions)
        groups = await self._groups(questions, seeds, 1, self._team.policy)
        answers = [answer for group in groups for answer in group]
        by_task = {
            task: round(fmean(a.reward for a in answers if a.task == task), 4)
            for task in self._split.train
        }
        step = len(self._steps)
        self._checks.append({"step": step, **_summary(answers), "tasks": by_task})
        self._say(f"step {step}: reward {self._checks[-1]['reward']:.4f} on validation questions")
        if self._best == step:
            with atomic_folder(self._folder.work / "best", replace=True) as draft:
                self._learner.export(draft)

    async def _groups(
        self, questions: Sequence[Question], seeds: Sequence[int], count: int, policy: Policy
    ) -> list[list[RewardedAnswer]]:
        """`count` answers to each question, written with the current switcher."""
        actor = await self._learner.actor()
        pairs = zip(questions, seeds, strict=True)
        return await asyncio.gather(
            *(self._sampler.group(actor, question, count, seed, policy) for question, seed in pairs)
        )

    @property
    def _best(self) -> int:
        """The step with the highest validation reward, the first of equals."""
        return int(max(self._checks, key=lambda check: check["reward"])["step"])

    def _keep(self) -> None:
        step = self._folder.work / f"step-{len(self._steps):06d}"
        with atomic_folder(step, replace=True) as draft:
            self._learner.save(draft)
            state = {"steps": self._steps, "checks": self._checks, "seconds": self._seconds}
            (draft / STATE).write_text(json.dumps(state), encoding="utf-8")
        for older in sorted(self._folder.work.glob("step-*"))[:-1]:
            shutil.rmtree(older)

    def _restore(self) -> None:
        last = max(self._folder.work.glob("step-*"), default=None)
        if last is None:
            return
        state = json.loads((last / STATE).read_text(encoding="utf-8"))
        self._steps, self._checks = state["steps"], state["checks"]
        self._seconds = state["seconds"]
        self._learner.restore(last)

    def _finish(self) -> Mapping[str, Any]:
        path = self._folder.path
        shutil.copytree(self._folder.work / "best", path, dirs_exist_ok=True)
        entry = self._learner.entry(path)
        write_text(path / "team.yaml", team_yaml(self._team, entry, path))
        metrics = {
            "method": "policy-gradient",
            "switcher": {"kind": self._team.switcher.kind, **asdict(self._config)},
            "candidates": [candidate.name for candidate in self._team.candidates],
            "patch_size": self._team.policy.patch_size,
            "patch": None if self._team.policy.patch is None else asdict(self._team.policy.patch),
            "tasks": list(self._split.train),
            SAMPLE: sample_questions((x.task.name, x.query) for x in self._split.validation),
            "best_step": self._best,
            "checks": self._checks,
            "history": self._steps,
            "tokens": int(sum(part["tokens"] for part in (*self._steps, *self._checks))),
            "seconds": round(self._seconds, 1),
        }
        write_card(path, "policy_gradient", metrics, SWITCHER)
        self._folder.finish({"schema": SWITCHER_SCHEMA, **metrics})
        return metrics


def _summary(answers: Sequence[RewardedAnswer]) -> dict[str, float]:
    """The metrics of some answers."""
    return {
        "reward": round(fmean(answer.reward for answer in answers), 6),
        "utility": round(fmean(answer.utility for answer in answers), 6),
        "switches": round(fmean(answer.switches for answer in answers), 4),
        "tokens": sum(answer.tokens for answer in answers),
    }
