"""Benchmarks from the Hugging Face hub, with rows converted to the authors' format.

The data sets could not be downloaded during development. Ids and fields were confirmed in public
code that uses them (`seen`), or are marked as not verified.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taketurns.errors import DataError
from taketurns.tasks.authors_format import SourceRow
from taketurns.utils.extras import require

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Source:
    """A data set: its hub id, the function from its rows to the authors' format (None: the row is
    left out), its configurations ("*": all of them), which of its splits serve as dev and test, and
    the public code in which its fields were `seen` ("": none, not verified). `most` limits the rows
    of a split, from its beginning."""

    path: str
    row: Callable[[SourceRow], dict[str, Any] | None]
    configs: tuple[str | None, ...] = (None,)
    splits: Mapping[str, str] = field(default_factory=lambda: {"test": "test"})
    seen: str = ""
    most: int | None = None

    @property
    def verified(self) -> bool:
        return bool(self.seen)


def fetch(source: Source) -> dict[str, list[SourceRow]]:
    """The rows of a data set by dev and test. Raises DataError if it cannot be downloaded or has
    unexpected fields."""
    splits: dict[str, list[SourceRow]] = {}
    for split, hub_split in source.splits.items():
        rows: list[SourceRow] = []
        for number, row in enumerate(_rows(source, hub_split), start=1):
            try:
                made = source.row(row)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise DataError(
                    f"{source.path}, {hub_split} row {number}: its fields are not the expected "
                    f"ones ({error!r}), it has {', '.join(row)}: give the authors' file with --data"
                ) from error
            if made is not None:
                rows.append({"id": str(number - 1), **made})
            if len(rows) == source.most:
                break
        splits[split] = rows
    return splits


def _rows(source: Source, split: str) -> Iterator[SourceRow]:
    require("a benchmark from the hub", "datasets")
    from datasets import get_dataset_config_names, load_dataset

    try:
        configs = source.configs
        if configs == ("*",):
            configs = tuple(get_dataset_config_names(source.path))
        for config in configs:
            streaming = source.most is not None  # download only the rows that are read
            yield from load_dataset(source.path, config, split=split, streaming=streaming)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"cannot download {source.path} from the hub: {reason}; give a local copy in the "
            "authors' format with --data"
        ) from error


def lettered(options: Any) -> dict[str, str]:
    """Options by the keys A, B, C …, in order."""
    return dict(zip(LETTERS, map(str, options), strict=False))


def truthfulqa(row: SourceRow) -> dict[str, Any]:
    """truthfulqa/truthful_qa, multiple_choice: mc1_targets has choices and labels, the true one
    first, so the options are put into alphabetical order."""
    targets = row["mc1_targets"]
    true = targets["choices"][targets["labels"].index(1)]
    choices = lettered(sorted(targets["choices"]))
    answer = next(key for key, text in choices.items() if text == true)
    return {"question": row["question"], "choices": choices, "answer": answer}


def gsm8k(row: SourceRow) -> dict[str, Any]:
    """openai/gsm8k, main: the answer follows ####."""
    return {"input": row["question"], "output": row["answer"].rpartition("####")[2].strip()}


def bbh(row: SourceRow) -> dict[str, Any]:
    """lukaemon/bbh: lettered targets have brackets, which the authors' file omits."""
    target = re.sub(r"^\(([A-Z])\)$", r"\1", row["target"].strip())
    return {"input": row["input"], "output": target}


def math(row: SourceRow) -> dict[str, Any] | None:
    """EleutherAI/hendrycks_math: the answer is the last box of the solution."""
    from taketurns.tasks.scorers.reading import concluded

    answer = concluded(row["solution"])
    return None if answer is None else {"input": row["problem"], "output": answer}


def agieval(row: SourceRow) -> dict[str, Any]:
    """hails/agieval-*: query has the question and its options, choices are "(A)…", gold is a list
    of indices."""
    stem = row["query"].partition("Answer Choices:")[0].removeprefix("Q: ").strip()
    choices = lettered(re.sub(r"^\([A-Z]\)\s*", "", option) for option in row["choices"])
    return {"question": stem, "choices": choices, "answer": LETTERS[row["gold"][0]]}


def arc(row: SourceRow) -> dict[str, Any]:
    """allenai/ai2_arc: choices has label and text, and the labels are the keys."""
    choices = dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))
    made = {"question": row["question"], "choices": choices, "answer": row["answerKey"]}
    return {"id": row["id"], **made}


def mmlu_redux(row: SourceRow) -> dict[str, Any] | None:
    """edinburgh-dawg/mmlu-redux-2.0: rows that its annotators marked as faulty are left out."""
    if row["error_type"] != "ok":
        return None
    answer = LETTERS[row["answer"]]
    return {"question": row["question"], "choices": lettered(row["choices"]), "answer": answer}


def popqa(row: SourceRow) -> dict[str, Any]:
    """akariasai/PopQA: possible_answers is a JSON list in a string."""
    return {"id": row["id"], "input": row["question"], "output": row["possible_answers"]}


def blend(row: SourceRow) -> dict[str, Any]:
    """nayeon212/BLEnD, multiple-choice-questions: choices is JSON in a string, answer_idx a key."""
    choices = row["choices"]
    choices = json.loads(choices) if isinstance(choices, str) else dict(choices)
    made = {"question": row["prompt"], "choices": choices, "answer": row["answer_idx"]}
    return {"id": row["MCQID"], **made}


def coconot(row: SourceRow) -> dict[str, Any]:
    """allenai/coconot, original: prompt and category."""
    return {"input": row["prompt"], "category": row["category"]}


def sciriff(row: SourceRow) -> dict[str, Any]:
    """allenai/SciRIFF, 4096: input and output."""
    return {"input": row["input"], "output": row["output"]}


def kaleidoscope(row: SourceRow) -> dict[str, Any]:
    """allenai/ValuePrism: a situation, a value, right or duty, and its valence."""
    choices = {"A": "Support", "B": "Oppose", "C": "Either support or oppose"}
    valence = row["valence"].casefold()
    answer = next((key for key, text in choices.items() if text[:6].casefold() == valence[:6]), "C")
    question = (
        f"Does the {row['vrd'].lower()} support or oppose the situation, or could it do either?"
        f"\n\n{row['vrd']}: {row['text']}\n\nSituation: {row['situation']}"
    )
    return {"question": question, "choices": choices, "answer": answer}


def alpacaeval(row: SourceRow) -> dict[str, Any]:
    """tatsu-lab/alpaca_eval: instruction."""
    return {"input": row["instruction"]}


def wildchat(row: SourceRow) -> dict[str, Any] | None:
    """allenai/WildChat-1M: the first turn of English conversations that are not marked toxic."""
    if row["language"] != "English" or row["toxic"]:
        return None
    return {"input": row["conversation"][0]["content"]}
