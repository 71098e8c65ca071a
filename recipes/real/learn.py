"""Train switchers for the real team with the project's commands:

    python -m recipes.real.learn --cache FOLDER --data FOLDER --out runs/real

Rollouts; a language model and a head trained on them; an evaluation against each model alone,
random switching and the untuned language model; and a student distilled from the team. The models
are small and the questions few: the run shows that everything works on real models, and its
intervals are wide. The same command continues after a stop.

Writes `learn.json` (command, seconds and results of each step) and `learn.md` (the same as text).
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from recipes.real import results
from recipes.real.fetch import cache_options, fetch
from recipes.steps import run_command
from recipes.terminal import say
from taketurns.errors import DataError
from taketurns.utils.files import write_text

TASKS = ("popqa", "arc_challenge")  # facts, and science with options: short questions and answers
TEAM = """\
candidates:
  - name: gemma
    model: {cache}/gemma
    prompt: "Question: {{text}}\\nAnswer:"
  - name: smollm2
    model: {cache}/smollm2
  - name: qwen
    model: {cache}/qwen
switcher:
  kind: random
policy:
  patch_size: 8
  max_tokens: 32
  stop: ["\\n"]
"""


@dataclass(frozen=True, slots=True)
class LearningStep:
    """A command of the project, its output, and the function that reads the output."""

    name: str
    arguments: tuple[str, ...]
    results: Callable[[], Mapping[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the missing steps; 1 if one fails, 2 if there are no models or questions."""
    parser = cache_options(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the benchmarks' JSON files")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    options = parser.parse_args(arguments)
    try:
        missing = [task for task in TASKS if not (options.data / f"{task}.json").is_file()]
        if missing:
            raise DataError(
                f"there is no {options.data / missing[0]}.json: give the folder of the authors' "
                "files with --data (make: BENCHMARKS=…), see docs/tasks.md"
            )
        cache = fetch(options.cache).parent
    except DataError as error:
        say(f"error: {error}")
        return 2
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    team = out / "team.yaml"
    team.write_text(TEAM.format(cache=cache), encoding="utf-8")
    book = out / "learn.json"
    done: dict[str, Any] = json.loads(book.read_text(encoding="utf-8")) if book.exists() else {}
    for step in steps(team, cache, options.data, out):
        command = shlex.join(("taketurns", *step.arguments))
        if done.get(step.name, {}).get("command") != command:
            say(f"\n{step.name}: {command}")
            try:
                seconds = run_command(("taketurns", *step.arguments), stdout=sys.stderr)
            except CalledProcessError:
                say(f"error: {step.name} failed; the same command goes on from there")
                return 1
            done[step.name] = {
                "command": command,
                "seconds": round(seconds, 1),
                "results": step.results(),
            }
            write_text(book, json.dumps(done, indent=1, ensure_ascii=False) + "\n")
        say(results.line(step.name, done[step.name]))
    write_text(out / "learn.md", results.markdown(done))
    print(results.markdown(done), end="")
    return 0


def steps(team: Path, cache: Path, data: Path, out: Path) -> list[LearningStep]:
    """The commands, in order."""
    tasks = tuple(argument for task in TASKS for argument in ("--task", task))
    common = ("--team", str(team), "--data", str(data))
    labels = out / "rollouts.jsonl"
    train = ("train", *common, "--labels", str(labels), "--min-margin", "0.05", "--json")
    return [
        LearningStep(
            "rollout",
            ("rollout", *common, *tasks, "--prefixes", "40", "--k", "4", "--output", str(labels)),
            lambda: results.rollouts(labels),
        ),
        LearningStep(
            "language model",
            (*train, "--switcher", "lm", "--start", "smollm2", "--epochs", "3", "--batch-size",
             "8", "--output", str(out / "lm")),
            lambda: results.metrics(out / "lm"),
        ),
        LearningStep(
            "head",
            (*train, "--switcher", "head", "--output", str(out / "head")),
            lambda: results.metrics(out / "head"),
        ),
        LearningStep(
            "evaluation",
            ("evaluate", *common, *tasks, "--limit", "20", "--seeds", "1",
             "--methods", "gemma,smollm2,qwen,random,untuned-lm,lm,head", "--subject", "lm",
             "--switcher", f"untuned-lm={cache / 'smollm2'}", "--switcher", f"lm={out / 'lm'}",
             "--switcher", f"head={out / 'head'}", "--output", str(out / "evaluation")),
            lambda: results.evaluation(out / "evaluation"),
        ),
        LearningStep(
            "distillation",
            ("distill", "--team", str(out / "lm"), "--data", str(data), *tasks, "--aligned",
             "smollm2", "--loss", "sft", "--questions", "20", "--answers", "2", "--epochs", "2",
             "--batch-size", "8", "--limit", "20", "--json", "--output", str(out / "student")),
            lambda: results.metrics(out / "student"),
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
