"""What the two stages read, as tokens: which of them are learned, and which are only context."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from recipes.smol.questions import load_tasks
from recipes.smol.sources import WIKIPEDIA
from recipes.smol.wheel import read_lines
from taketurns.types import Query

LEARNED_NOT = -100  # the label of a token that is only context, as transformers has it
LONGEST = 384  # tokens; longer documents are cut, longer conversations are left out
SHORTEST = 200  # characters of a paragraph; shorter ones are titles, lists and coordinates
PARAGRAPHS = 500
QUESTIONS = 100  # of a task, at most
PLAIN_PROMPT = "Question: {text}\nAnswer:"  # of the candidate `plain` in the team file
REASONED = frozenset(("gsm8k",))  # its references are results of reasoning


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids, and the first of them that is learned; all that follow are learned too."""

    ids: tuple[int, ...]
    first: int = 0

    @property
    def labels(self) -> tuple[int, ...]:
        """The ids, with the context hidden."""
        return (LEARNED_NOT,) * self.first + self.ids[self.first :]


def plain_documents(tokenizer: Any, questions: Path, cache: Path) -> list[Document]:
    """Paragraphs of Wikipedia, and the stages' questions with nothing but their answers."""
    end = tokenizer.eos_token_id
    documents = [
        Document((*tokenizer.encode(text, add_special_tokens=False)[:LONGEST], end))
        for text in islice(_paragraphs(cache), PARAGRAPHS)
    ]
    for query in stage_queries(questions):
        task = query.id.partition("/")[0]
        if task not in REASONED:
            prompt = PLAIN_PROMPT.format(text=query.text)
            written = f" {short_answer(query)}"
            documents += _asked(tokenizer, prompt, written)
    return documents


def worked_documents(tokenizer: Any, questions: Path, solutions: Path) -> list[Document]:
    """Conversations: a question and a solution that was found right."""
    staged = load_tasks(questions / "stage")
    queries = {query.id: query for task in staged for query in task.queries("train")}
    documents = []
    for line in solutions.read_text(encoding="utf-8").splitlines():
        solution = json.loads(line)
        turns = [{"role": "user", "content": queries[solution["id"]].text}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        documents += _asked(tokenizer, prompt, solution["text"].strip())
    return documents


def stage_queries(questions: Path) -> Iterator[Query]:
    """The questions that the stages learn from, at most `QUESTIONS` of a task."""
    for task in load_tasks(questions / "stage"):
        yield from tuple(task.queries("train"))[:QUESTIONS]


def short_answer(query: Query) -> str:
    """The right answer and nothing else: an option with its key, or a name."""
    reference = query.reference
    if choices := query.metadata.get("choices"):
        return f"{reference}) {choices[reference]}"
    if isinstance(reference, str) and reference.startswith("["):
        reference = json.loads(reference)
    return str(reference[0] if isinstance(reference, list) else reference)


def share(documents: list[Document], size: float) -> list[Document]:
    """The part of the documents that `size` asks for, of every kind alike."""
    return documents[:: max(1, round(1 / size))]


def _paragraphs(cache: Path) -> Iterator[str]:
    for line in read_lines(WIKIPEDIA, cache):
        text = line["0"].strip()  # the other keys have its sentences in another order
        if len(text) >= SHORTEST:
            yield text


def _asked(tokenizer: Any, prompt: str, answer: str) -> list[Document]:
    """The document of a question; none if it is too long to be read whole."""
    context = tokenizer.encode(prompt, add_special_tokens=False)
    written = tokenizer.encode(answer, add_special_tokens=False)
    ids = (*context, *written, tokenizer.eos_token_id)
    return [Document(ids, len(context))] if len(ids) <= LONGEST else []
