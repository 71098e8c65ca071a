"""Switch Generation beside its neighbours at the token level, on the pocket tasks, step by step.

    python -m benchmarks.neighbours.run WORK [--pipeline FOLDER] [--seeds N] [--only PATTERN …]

Heads and judges are trained for the first and the last checkpoint, all methods answer the same
questions, and every method with a knob is asked along it; the step `everything` asks all other
methods of `taketurns evaluate` too. A step is one command with one output in
WORK; a step with an existing output is skipped, so the same command continues after a stop.
`--pipeline FOLDER` is a team of another pipeline, made by `python -m recipes.pocket`.
`benchmarks.neighbours.curves` makes the table and the picture of the knobs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.neighbours.knobs import BY_TEMPERATURE, KNOBS, TEMPERATURES, Knob
from recipes.steps import Step, perform_steps, step_options
from taketurns.config.loading import load_team_config
from taketurns.config.team_file import team_yaml
from taketurns.pocket.tasks import tasks_named
from taketurns.tasks.defaults import TaskChoice, choose_tasks
from taketurns.utils.files import write_text

LEARNED = 60  # train questions of a task, for the heads that learn without labels
COMPARISONS = 390  # labels of the judge
TRAINED = "metrics.json"  # a switcher's folder has it when the training is complete
OURS = ("switch", "switch-lm")
OTHERS = ("trained-router", "fuse-logprobs")
PAIRS = ("nudging", "baco", "mentorcollab")
SOME = ("--limit", "8", "--seeds", "5")  # questions along a knob


def steps(work: Path, pipeline: str, seeds: int = 5) -> Iterator[Step]:
    """The steps, each after the steps that it needs; `seeds` are those of the table."""
    team = load_team_config(pipeline)
    names = [candidate.name for candidate in team.candidates]
    pair, mentor, texts = work / "pair.yaml", work / "mentor.yaml", work / "texts.jsonl"
    yield _made("pair", pair, partial(write_pair, pipeline, pair, {"kind": "random"}))
    rule = {"kind": "mentorcollab", "rate": 1.0}
    yield _made("mentor", mentor, partial(write_pair, pipeline, mentor, rule))
    yield _made("texts", texts, partial(write_texts, pipeline, texts))
    trained = {name: work / "switchers" / name for name in ("co-llm", "r2r", "mentor-mlp")}
    defer = ("taketurns", "train", "--team", str(pair), "--switcher", "deferral", "--output")
    folder = trained["co-llm"]
    yield Step("co-llm", (*defer, str(folder), "--texts", str(texts)), folder / TRAINED)
    world = ("--world", str(_tasks(pipeline).world))
    folder = trained["r2r"]
    yield Step("r2r", (*defer, str(folder), *world, "--limit", str(LEARNED)), folder / TRAINED)
    labels = work / "comparisons.jsonl"
    rollout = ("taketurns", "rollout", "--team", str(mentor), *world, "--k", "4")
    drawn = ("--traces", "on-policy", "--cuts", "comparison", "--prefixes", str(COMPARISONS))
    yield Step("comparisons", (*rollout, *drawn, "--output", str(labels)), labels)
    folder = trained["mentor-mlp"]
    learn = ("taketurns", "train", "--team", str(mentor), "--switcher", "mentorcollab")
    yield Step(
        "mentor-mlp", (*learn, "--labels", str(labels), "--output", str(folder)), folder / TRAINED
    )
    yield from fusionroute(work, pipeline, texts, trained)

    switchers = [f"--switcher={name}={folder}" for name, folder in trained.items()]
    methods = ",".join([*names, *PAIRS, *trained, *OTHERS, *OURS])
    ask = ("taketurns", "evaluate", "--team", pipeline, *switchers)
    wide = ("--limit", "60", "--seeds", str(seeds), "--dev-limit", "30", "--clock", "cpu")
    for name, which in (("table", ("--methods", methods)), ("everything", ())):
        folder = work / name
        asked = (*ask, *which, *wide, "--output", str(folder))
        yield Step(name, asked, folder / "results.json")
    tasks = [word for name in _tasks(pipeline).names for word in ("--task", name)]
    for knob in KNOBS:
        for value in knob.values:
            yield from along(work, pipeline, tasks, knob, value, trained)
    for value in TEMPERATURES:
        folder = work / "curves" / f"temperature-{value:g}"
        warm = ("--set", f"policy.temperature={value:g}")
        asked = ("taketurns", "evaluate", "--team", pipeline, "--methods", ",".join(BY_TEMPERATURE))
        yield Step(
            folder.name, (*asked, *SOME, *warm, "--output", str(folder)), folder / "results.json"
        )


def fusionroute(work: Path, pipeline: str, texts: Path, trained: dict[str, Path]) -> Iterator[Step]:
    """The router of FusionRoute, which learns from the same texts, for all candidates; then from
    its own answers to the questions of these texts."""
    first = trained["fusionroute"] = work / "switchers" / "fusionroute"
    learn = ("taketurns", "train", "--switcher", "fusionroute", "--team")
    yield Step(
        "fusionroute",
        (*learn, pipeline, "--texts", str(texts), "--output", str(first)),
        first / TRAINED,
    )
    second = trained["fusionroute-preferred"] = work / "switchers" / "fusionroute-preferred"
    world = ("--world", str(_tasks(pipeline).world))
    asked = (*world, "--limit", str(LEARNED), "--answers", "6")
    yield Step(
        "fusionroute-preferred",
        (*learn, str(first), *asked, "--output", str(second)),
        second / TRAINED,
    )


def along(
    work: Path,
    pipeline: str,
    tasks: Sequence[str],
    knob: Knob,
    value: float,
    trained: Mapping[str, Path],
) -> Iterator[Step]:
    """The answers at one value of a knob; `tasks` are the words that name the tasks."""
    folder = work / "curves" / f"{knob.method}-{value:g}"
    team = folder / "team.yaml"
    make = partial(write_pair, pipeline, team, knob.at(value, trained))
    yield _made(f"team-{folder.name}", team, make)
    asked = ("taketurns", "evaluate", "--team", str(team), *tasks, "--methods", "switch", *SOME)
    output = folder / "evaluation"
    yield Step(folder.name, (*asked, "--output", str(output)), output / "results.json")


def write_pair(pipeline: str, file: Path, switcher: dict[str, Any]) -> None:
    """The team file of the first and the last candidate of a pipeline, whose patches end where the
    switcher ends them."""
    team = load_team_config(pipeline)
    first, *_, last = team.candidates
    policy = replace(team.policy, patch_size=team.policy.max_tokens)
    pair = replace(team, candidates=(first, last), policy=policy)
    write_text(file, team_yaml(pair, switcher, file.parent))


def write_texts(pipeline: str, file: Path) -> None:
    """Train questions with the answers that tuned checkpoints learn, as `--texts` reads them."""
    lines = [
        {"text": query.text, "answer": f" {task.item(query).worked}"}
        for task in tasks_named(seed=_tasks(pipeline).world)
        for query in task.queries("train")[:LEARNED]
    ]
    write_text(file, "".join(json.dumps(line) + "\n" for line in lines))


def _tasks(pipeline: str) -> TaskChoice:
    return choose_tasks(pipeline, (), lambda told: None)


def _made(name: str, output: Path, make: Callable[[], object]) -> Step:
    return Step(name, (), output, make)


if __name__ == "__main__":
    parser = step_options(__doc__)
    parser.add_argument("--pipeline", default="pocket", help="a team of the pocket world")
    parser.add_argument("--seeds", type=int, default=5, help="answers to each question")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    perform_steps(steps(options.work.resolve(), options.pipeline, options.seeds), options)
