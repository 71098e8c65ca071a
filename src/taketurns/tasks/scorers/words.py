"""Short answers in words: matching an alias (right or wrong), overlap of tokens (F1), exact match.

The reference is a text, a list of texts, or a JSON list of texts in a string, as in PopQA.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from taketurns.errors import DataError
from taketurns.tasks.scorers.base import EMPTY_ANSWER, unparsed
from taketurns.tasks.scorers.negation import affirmed, denies
from taketurns.tasks.scorers.reading import bare, concluded, last_line, sentence
from taketurns.tasks.scorers.styling import answered, unprefaced
from taketurns.types import Query, Score
from taketurns.utils.json_files import parse_json

TOKEN = re.compile(r"[-+]?\d+(?:[.,/]\d+)*|[^\W\d_]+(?:['’.][^\W\d_]+)*|[^\w\s.,;:!?\"'()\[\]]")
ARTICLES = frozenset({"a", "an", "the"})
BEGUN = re.compile(r"^(?:it|he|she|they|this|that)(?:['’]s| is| was| are| were) ", re.IGNORECASE)
ACCENTS = re.compile(r"[\u0300-\u036f]")
# A full stop before "A" or "I" may be the end of a sentence.
INITIALS = re.compile(
    r"(?<![\w.'])[A-Z](?:\s?[A-Z](?![\w'])|\.\s?(?:[B-HJ-Z](?![\w'])|[AI](?:\.|(?=\s*$))))+\.?(?=\s|[^\w.])\s?"
)
SHORT = 3  # letters of an abbreviation, which must match in case


@dataclass(frozen=True)
class _ReferenceScorer:
    """Compares an answer with the texts of a reference."""

    version: ClassVar[int] = 2

    def check(self, query: Query) -> None:
        aliases_of(query)


@dataclass(frozen=True)
class Alias(_ReferenceScorer):
    """1 if the answer contains one of the aliases as whole words, after Mallen et al. (arXiv
    2212.10511): anywhere in its conclusion, or anywhere in a text without a conclusion.

    An alias that is in the question counts only at the beginning or end of the answer. The case of
    an abbreviation of up to three letters must match: "it" is not "IT". Initials may have spaces,
    and accents may be left out. Denied aliases do not count ("not Lyon, it is Paris").
    """

    stored_name: ClassVar[str] = "Alias"

    name: str = "alias"

    def score(self, query: Query, answer: str) -> Score:
        answer = answered(answer)
        conclusion = concluded(answer)
        concluding = bare(conclusion if conclusion is not None else answer)
        words, kept = _words(concluding), _words(affirmed(concluding))
        if not words:
            return unparsed(EMPTY_ANSWER)
        asked = _words(" ".join(turn.content for turn in query.conversation))
        for alias in aliases_of(query):
            if _names(words if denies(alias) else kept, _words(alias), asked):
                return Score(1.0, alias)
        return Score(0.0, (" ".join(affirmed(concluding).split()) or concluding)[:200])

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        short = _short(answered(answer))
        return _gist(affirmed(short)) or _gist(short)


@dataclass(frozen=True)
class TokenF1(_ReferenceScorer):
    """The best F1 over tokens between the conclusion of the answer (else all of it) and an alias,
    after Rajpurkar et al. (arXiv 1606.05250). Numbers keep their sign and decimal point, and
    articles are left out unless nothing else is left."""

    stored_name: ClassVar[str] = "TokenF1"

    name: str = "f1"

    def score(self, query: Query, answer: str) -> Score:
        answer = answered(answer)
        conclusion = concluded(answer)
        concluding = bare(conclusion if conclusion is not None else answer)
        tries = {
            concluding,
            bare(sentence(concluding)) if conclusion is not None else unprefaced(concluding),
        }
        if not any(map(_tokens, tries)):
            return unparsed(EMPTY_ANSWER)
        values = (
            _f1(_tokens(part), _tokens(alias)) for part in tries for alias in aliases_of(query)
        )
        return Score(max(values), concluding[:200])

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        return _gist(_short(answered(answer)))


@dataclass(frozen=True)
class Exact(_ReferenceScorer):
    """1 if the conclusion of the answer (else its last line) is one of the references, ignoring
    case, spacing, styling and commas between words; signs, decimal points and brackets count."""

    stored_name: ClassVar[str] = "Exact"

    name: str = "exact"

    def score(self, query: Query, answer: str) -> Score:
        answer = answered(answer)
        conclusion = concluded(answer)
        concluding = conclusion if conclusion is not None else last_line(answer)
        if not _squeezed(concluding):
            return unparsed(EMPTY_ANSWER)
        tries = {_squeezed(concluding), _squeezed(answer), _squeezed(unprefaced(concluding))}
        if conclusion is not None:
            tries.add(_squeezed(sentence(concluding)))
        golds = {_squeezed(alias) for alias in aliases_of(query)}
        return Score(float(not tries.isdisjoint(golds)), bare(concluding)[:200])

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        answer = answered(answer)
        conclusion = concluded(answer)
        short = sentence(conclusion) if conclusion is not None else unprefaced(last_line(answer))
        return _squeezed(BEGUN.sub("", bare(short))) or None


def aliases_of(query: Query) -> tuple[str, ...]:
    """The texts of a reference. Raises DataError if it has none."""
    reference = query.reference
    if isinstance(reference, str) and reference.lstrip().startswith('["'):
        try:
            reference = parse_json(reference)
        except ValueError as error:
            raise DataError(
                f"the reference begins like a JSON list but is not one: {error}"
            ) from error
    if isinstance(reference, str):
        reference = [reference]
    if (
        not isinstance(reference, Sequence)
        or not reference
        or not all(isinstance(alias, str) and alias.strip() for alias in reference)
    ):
        raise DataError(f"the reference must be a text or a list of texts, not {reference!r}")
    return tuple(reference)


def _short(answer: str) -> str:
    """The first sentence of a text's conclusion; the whole text if it has none."""
    conclusion = concluded(answer)
    return bare(unprefaced(answer) if conclusion is None else sentence(conclusion))


def _gist(text: str) -> str | None:
    """The tokens of a text, without case, styling, articles and a beginning like "it is"."""
    return " ".join(_tokens(BEGUN.sub("", text))) or None


def _names(words: list[str], alias: list[str], asked: list[str]) -> bool:
    if not alias:
        return False
    lone = len(alias) == 1 and len(alias[0]) <= SHORT
    at = _places(words, alias) if lone else _places(_folded(words), _folded(alias))
    if _places(_folded(asked), _folded(alias)):
        at = [i for i in at if i == 0 or i + len(alias) == len(words)]
    return bool(at)


def _places(words: list[str], alias: list[str]) -> list[int]:
    size = len(alias)
    return [i for i in range(len(words) - size + 1) if words[i : i + size] == alias]


def _folded(words: list[str]) -> list[str]:
    return [word.casefold() for word in words]


def _words(text: str) -> list[str]:
    """Words for matching, without full stops within abbreviations, accents and spaces between
    initials; a possessive ending is a separate word."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("'s ", " 's ")
    text = ACCENTS.sub("", unicodedata.normalize("NFD", text))
    text = INITIALS.sub(lambda match: re.sub(r"[\s.]", "", match[0]) + " ", f"{text} ")
    return re.findall(r"[^\W_]+|[^\w\s.,;:!?\"'()\[\]-]", re.sub(r"(?<=\w)\.(?=\w)", "", text))


def _tokens(text: str) -> list[str]:
    tokens = TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
    return [token for token in tokens if token not in ARTICLES] or tokens


def _f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    common = (Counter(answer) & Counter(gold)).total()
    return 2 * common / (len(answer) + len(gold)) if common else 0.0


def _squeezed(text: str) -> str:
    plain = bare(unicodedata.normalize("NFKC", text)).casefold()
    words = [word for word in re.split(r"[\s,;]+", plain) if word]
    # Spaces between brackets do not matter; spaces between words do.
    return "".join(words) if not re.search(r"\w", plain) else " ".join(words)
