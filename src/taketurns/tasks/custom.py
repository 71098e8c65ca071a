"""A user's task: questions in JSON lines and a scorer, in a few lines of YAML (`EXAMPLE`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taketurns.config.answer_format import read_format
from taketurns.config.yaml_source import construct, invalid, read_node
from taketurns.errors import ConfigError, DataError, UsageError
from taketurns.tasks.authors_format import CHOOSE, listed
from taketurns.tasks.base import Split
from taketurns.tasks.scored import ScoredTask, Unscored, scored_task
from taketurns.tasks.scorers.base import Scorer
from taketurns.tasks.scorers.registry import make_scorer
from taketurns.types import Query
from taketurns.utils.json_files import parse_json

EXAMPLE = """\
name: capitals
data: capitals.jsonl
scorer: alias
fields: {text: question, reference: capital}
prompt: "{text} Answer in one word."
"""
SPLITS = get_args(Split)
FIELDS = ("id", "text", "reference", "choices", "split")


class _ScorerFile(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    name: str


class TaskFile(BaseModel):
    """A task file. `data` is a file of JSON lines, relative to the task file, or one per split.
    `fields` gives the keys of a line for `id`, `text`, `reference`, `choices` and `split`, if they
    have other names. `prompt` contains `{text}` and may contain `{choices}` and any other key of a
    line. `format` is the format of every answer, as in a team file."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=1)
    data: str | dict[Split, str]
    scorer: str | _ScorerFile
    category: str = "own"
    fields: dict[str, str] = {}
    prompt: str | None = None
    format: dict[str, Any] | str | None = None


def load_task_file(
    path: Path, settings: Mapping[str, Any] | None = None, *, scored: bool = True
) -> ScoredTask:
    """The task of a task file; `settings` are added to the scorer's. Raises ConfigError for a task
    file that cannot be used, DataError for data, with the line and the field."""
    file = _read(path)
    if unknown := [field for field in file.fields if field not in FIELDS]:
        raise ConfigError(
            f"{path}: unknown key {unknown[0]!r} in fields; the keys are {', '.join(FIELDS)}"
        )
    if file.prompt is not None and "{text}" not in file.prompt:
        raise ConfigError(f"{path}: prompt must contain {{text}}, the place of the question")
    try:
        scorer = _scorer(file, settings) if scored else Unscored(file.name)
    except UsageError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        answer_format = read_format(file.format)
    except ConfigError as error:
        raise ConfigError(f"{path}: format: {error}") from error
    splits: dict[Split, list[Query]] = {split: [] for split in SPLITS}
    seen: dict[str, str] = {}
    for where, split, line in _lines(path, file):
        query = replace(_query(file, line, where), format=answer_format)
        if query.id in seen:
            raise DataError(
                f"{where}: {seen[query.id]} already has the id {line_id(query)!r}; change one of "
                "the two"
            )
        seen[query.id] = where
        try:
            scorer.check(query)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        splits[split].append(query)
    if not any(splits.values()):
        raise DataError(f"{path}: the file under the key data has no questions: write one per line")
    frozen: dict[Split, tuple[Query, ...]] = {key: tuple(value) for key, value in splits.items()}
    return scored_task(file.name, file.category, frozen, scorer)


def line_id(query: Query) -> str:
    """The id of a question in the data, without the task's name."""
    return query.id.partition("/")[2]


def _read(path: Path) -> TaskFile:
    node = read_node(path, "task file")
    try:
        data = construct(node)
    except (yaml.YAMLError, ValueError) as error:
        raise invalid(path, error) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a task file must be a mapping with name, data and scorer")
    try:
        return TaskFile.model_validate(data)
    except ValidationError as error:
        _explain(path, error)


def _explain(path: Path, error: ValidationError) -> NoReturn:
    errors = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = errors[0]  # unknown keys first: a misspelt key also counts as missing
    key = str(first["loc"][0])
    known = list(TaskFile.model_fields)
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, known, n=1)
        cure = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
        raise ConfigError(f"{path}: unknown key {key!r}; {cure}") from error
    if first["type"] == "missing":
        raise ConfigError(f"{path}: the file needs the key {key!r}") from error
    raise ConfigError(f"{path}: {key} {first['msg'].removeprefix('Input ')}") from error


def _scorer(file: TaskFile, settings: Mapping[str, Any] | None) -> Scorer:
    if isinstance(file.scorer, str):
        return make_scorer(file.scorer, settings)
    return make_scorer(file.scorer.name, {**(file.scorer.model_extra or {}), **(settings or {})})


def _lines(path: Path, file: TaskFile) -> Iterator[tuple[str, Split, dict[str, Any]]]:
    """Each line of the data, with its place and split."""
    files = file.data if isinstance(file.data, dict) else {None: file.data}
    field = file.fields.get("split", "split")
    for split, name in files.items():
        place = path.parent / Path(name).expanduser()
        try:
            text = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {place}: {error}") from error
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{place}:{number}"
            try:
                record = parse_json(line)
            except ValueError as error:
                raise DataError(f"{where}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise DataError(f"{where}: a line must be an object with an id and a text")
            line_split = split or record.get(field, "test")
            if line_split not in SPLITS:
                raise DataError(
                    f"{where}: the field {field!r} must be {listed(SPLITS)}, not {line_split!r}"
                )
            yield where, line_split, record


def _query(file: TaskFile, line: dict[str, Any], where: str) -> Query:
    names = {field: file.fields.get(field, field) for field in FIELDS}
    identifier, text = line.get(names["id"]), line.get(names["text"])
    if not isinstance(identifier, str | int) or isinstance(identifier, bool):
        raise DataError(f"{where}: the field {names['id']!r} must be a text or a number")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: the field {names['text']!r} must be a text that is not empty")
    choices = line.get(names["choices"])
    metadata: dict[str, Any] = {"task": file.name} | {
        key: value for key, value in line.items() if key not in names.values()
    }
    if choices is not None:
        if not isinstance(choices, dict) or not all(isinstance(o, str) for o in choices.values()):
            raise DataError(f"{where}: the field {names['choices']!r} must map keys to texts")
        metadata["choices"] = choices
    reference = line.get(names["reference"])
    prompt = _prompt(file, line, text, choices, where)
    return Query(f"{file.name}/{identifier}", text=prompt, reference=reference, metadata=metadata)


def _prompt(file: TaskFile, line: Mapping[str, Any], text: str, choices: Any, where: str) -> str:
    options = "\n".join(f"{key}) {option}" for key, option in (choices or {}).items())
    if file.prompt is None:
        if not choices:
            return text
        return f"{text}\n\n{options}\n\n{CHOOSE.format(keys=listed(list(choices)))}"
    try:
        return file.prompt.format(**{**line, "text": text, "choices": options})
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"{where}: the prompt of the task file needs {error}, but the line has only "
            f"{', '.join(line)}"
        ) from error
