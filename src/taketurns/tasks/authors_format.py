"""Data in the JSON format of the paper's authors (github.com/BunsenFeng/model_collaboration): a
file with `dev` and `test`, lists of rows.

A row has an `id` and either `question`, `choices` (key to option) and `answer` (a key), or `input`
and usually `output`. Every error names the file, the row and the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from taketurns.errors import DataError
from taketurns.tasks.splits import IdentifiedQuery
from taketurns.types import Query
from taketurns.utils.json_files import read_json

SourceRow = Mapping[str, Any]
Form = Literal["choice", "answer", "open"]
SPLITS = ("train", "dev", "test")

CHOOSE = "Answer with the key of the right option: {keys}."
CONCLUDE = "End with the final answer as \\boxed{ANSWER}."


def read_file(path: Path) -> dict[str, list[SourceRow]]:
    """The rows of a file by split. Raises DataError if the file has another format."""
    try:
        data = read_json(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or not any(split in data for split in SPLITS):
        raise DataError(
            f'{path} must be an object with "dev" or "test" (or "train"), each a list of rows'
        )
    rows = {split: data[split] for split in SPLITS if split in data}
    for split, listed in rows.items():
        if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
            raise DataError(f"{path}: {split!r} must be a list of objects, one per question")
    return rows


def asked(
    task: str,
    form: Form,
    row: SourceRow,
    where: str,
    options: Callable[[str, str], Mapping[str, str] | None] | None = None,
    stem: Callable[[str], str] = lambda question: question,
) -> IdentifiedQuery | None:
    """A row as a query; None if its answer is null. `options` finds the options in a question's
    text, `stem` the part that identifies the question.

    Raises DataError, which names `where` and the field.
    """
    field = "question" if form == "choice" else "input"
    question = _text(row, field, where)
    identifier = row.get("id")
    if not isinstance(identifier, str | int) or isinstance(identifier, bool):
        raise DataError(f"{where}: the field 'id' must be a text or a number")
    rest = {key: value for key, value in row.items() if key not in ("id", field, "reference")}
    reference: Any = row.get("reference")
    if form == "open":
        rest.pop("output", None)
        prompt = question
    else:
        gold = "answer" if form == "choice" else "output"
        if gold not in row:
            raise DataError(f"{where}: the field {gold!r} is missing: add it, the right answer")
        reference = rest.pop(gold)
        if reference is None:
            return None
        if not isinstance(reference, str | int | float | list):
            raise DataError(
                f"{where}: the field {gold!r} must be a text, a number or a list, not {reference!r}"
            )
        prompt = f"{question.rstrip()}\n\n{CONCLUDE}"
    if form == "choice":
        choices = _choices(row, where)
        if str(reference) not in choices:
            keys = ", ".join(choices)
            raise DataError(
                f"{where}: the field 'answer' must be a key of 'choices' ({keys}), not "
                f"{reference!r}"
            )
        rest["choices"], reference = choices, str(reference)
        prompt = offered(question, choices)
    elif form == "answer" and options is not None:
        named = options(question, str(reference))
        if named is not None and str(reference) in named:
            rest["choices"] = dict(named)
    metadata = {"task": task, **rest}
    return IdentifiedQuery(
        Query(str(identifier), text=prompt, reference=reference, metadata=metadata), stem(question)
    )


def offered(question: str, choices: Mapping[str, str]) -> str:
    """A question with its options, unless its text lists them, and the form of the answer."""
    shown = question.rstrip()
    if not all(f"{key}. {option}" in question for key, option in choices.items()):
        shown += "\n\n" + "\n".join(f"{key}) {option}" for key, option in choices.items())
    return f"{shown}\n\n{CHOOSE.format(keys=listed(list(choices)))}"


def listed(keys: Sequence[str]) -> str:
    """The keys in words: "A, B or C"."""
    return " or ".join(filter(None, (", ".join(keys[:-1]), keys[-1])))


def _text(row: SourceRow, field: str, where: str) -> str:
    value = row.get(field)
    if field not in row:
        has = ", ".join(map(repr, row)) or "no fields"
        raise DataError(f"{where}: the field {field!r} is missing; the row has {has}")
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: the field {field!r} must be a text that is not empty")
    return value


def _choices(row: SourceRow, where: str) -> dict[str, str]:
    choices = row.get("choices")
    if "choices" not in row:
        raise DataError(f"{where}: the field 'choices' is missing: add it, options by key")
    if (
        not isinstance(choices, dict)
        or len(choices) < 2
        or not all(isinstance(option, str) for option in choices.values())
    ):
        raise DataError(f"{where}: the field 'choices' must map at least two keys to texts")
    return dict(choices)
