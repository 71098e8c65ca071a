"""Rules for the skill that the next part of an answer needs, from the model answer.

An unfinished answer is aligned with the model answer, word by word; the next words of the model
answer show which skill is needed. The rules do not use rollouts, so labels made by them are a
reference for labels from rollouts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from taketurns.errors import DataError
from taketurns.pocket.questions import PocketQuestion
from taketurns.pocket.skill_patterns import Skill
from taketurns.pocket.tasks import PocketTask
from taketurns.pocket.text import PIECE
from taketurns.pocket.world import Person, Town, World, facts_of, state
from taketurns.runs.records import query_from_json
from taketurns.training.labels.labels import has_label

WORKING = re.compile(r"\[[^\]]*\] [\w ]+?(?=[.,])")


def skills(world: World, item: PocketQuestion) -> list[Skill | None]:
    """The skill that every token of the model answer needs; None where it needs none."""
    text = item.worked
    marks: list[Skill | None] = [None] * len(text)
    for begin, end, skill in _spans(world, item):
        marks[begin:end] = [skill] * (end - begin)
    skills_by_token: list[Skill | None] = []
    for piece in re.finditer(PIECE, text):
        inside = [mark for mark in marks[piece.start() : piece.end()] if mark is not None]
        skills_by_token.append(inside[-1] if inside else None)
    return skills_by_token


def needed(world: World, item: PocketQuestion, written: str, tokens: int) -> Skill | None:
    """The first skill that the next `tokens` tokens after `written` need; None if they need none,
    or if the answer is longer than the model answer."""
    model_pieces = re.findall(PIECE, item.worked)
    written_pieces = re.findall(PIECE, written.strip())
    at = 0
    for block in SequenceMatcher(
        None, written_pieces, model_pieces, autojunk=False
    ).get_matching_blocks():
        if block.size:
            at = block.b + len(written_pieces) - block.a
    coming = skills(world, item)[at : at + tokens]
    return next((skill for skill in coming if skill is not None), None)


def relabel(
    records: Iterable[Mapping[str, Any]], tasks: Mapping[str, PocketTask], recaller: str
) -> Iterator[dict[str, Any]]:
    """The same prefixes with utilities by rule: 1 for candidates with the skill that the next patch
    needs, else 0. `recaller` names the candidate with recall; the others have the skills that
    tuning teaches. If no skill is needed, all have 1. Raises DataError for records of other tasks,
    of other candidates, or with patches without a fixed size.
    """
    for record in records:
        if not has_label(record):
            continue
        if record["task"] not in tasks:
            raise DataError(
                f"record {record['id']!r} is of task {record['task']!r}, which is not a pocket "
                f"task; the pocket tasks are {', '.join(tasks)}"
            )
        if record.get("patch") is not None:
            raise DataError(
                f"record {record['id']!r} has patches without a fixed size, which the rules need: "
                "roll out a team without policy.patch"
            )
        if recaller not in (pool := record["candidates"]):
            raise DataError(
                f"record {record['id']!r} has no candidate {recaller!r}; its candidates are "
                f"{', '.join(pool)}"
            )
        task, query = tasks[record["task"]], query_from_json(record["query"])
        written = "".join(patch["text"] for patch in record["prefix"])
        skill = needed(task.world, task.item(query), written, record["patch_size"])
        able = [skill is None or (who == recaller) == (skill == "recall") for who in pool]
        branches = [
            {**branch, "utilities": [float(can)]}
            for branch, can in zip(record["branches"], able, strict=True)
        ]
        yield {**record, "branches": branches, "allocation": "rules", "best": None}


def _spans(world: World, item: PocketQuestion) -> Iterator[tuple[int, int, Skill]]:
    """The skills that the model answer needs, as (begin, end, skill), in characters."""
    text = item.worked
    if item.form in ("refusal", "unknown"):
        yield 0, len(text), "refuse" if item.form == "refusal" else "abstain"
        return
    if item.form == "phrase":
        yield 0, len(item.extra[1]), "wording"
    if item.form == "tools":
        yield from _last_words(text, item.reference.split(), "recall")
    if item.kind == "given":  # the characters are not in the world: their facts are read
        for match in re.finditer(r"(?:has|was born in) (\d+)", text):
            yield match.start(1), match.end(1), "read"
    for begin, end in _facts(world, text):
        yield begin, end, "recall"
    for match in WORKING.finditer(text):
        yield match.start(), match.end(), "reckon"
    if item.form == "key":
        begin = text.index("list:") + len("list:")
        yield begin, len(text), "read"


def _facts(world: World, text: str) -> Iterator[tuple[int, int]]:
    """The places of facts' values in the text, as (begin, end)."""
    entities: tuple[Person | Town, ...] = (*world.people, *world.towns)
    for entity in entities:
        if entity.name not in text:
            continue
        for fact in facts_of(entity):
            statement = state(fact)
            for match in re.finditer(re.escape(statement), text):
                begin = match.start() + statement.rindex(fact.value)
                yield begin, begin + len(fact.value)


def _last_words(text: str, words: Iterable[str], skill: Skill) -> Iterator[tuple[int, int, Skill]]:
    for word in words:
        begin = text.rindex(word)
        yield begin, begin + len(word), skill
