"""Formats compiled for llguidance, and refused where no answer can have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from llguidance import LLMatcher, regex_to_lark
from llguidance.gbnf_to_lark import any_to_lark

from taketurns.checkpoints.grammar_vocabulary import GrammarVocabulary, byte_vocabulary
from taketurns.errors import ConfigError
from taketurns.generation.formats.constraint import first_line
from taketurns.generation.formats.limits import FormatLimits
from taketurns.generation.formats.spelling import Search, search
from taketurns.types import AnswerFormat

_KEPT = 64  # compiled formats that are kept
_PATHS = 200  # parts of a schema that are looked at for the one that is wrong
# Any space, as people indent, but no more: small models would write nothing else.
JSON_OPTIONS: Mapping[str, Any] = {
    "lenient": False,
    "whitespace_flexible": True,
    "whitespace_pattern": r"[ \t\n\r]{1,32}",
    "coerce_one_of": False,
}
# Text that must follow may be written in any tokens. Otherwise only those are allowed that one
# tokenizer makes of it.
_EVERY_SPELLING = '%llguidance {"no_forcing": true}'
_SPECIAL = re.compile(r"[][\\^$.|?*+(){}/#&~-]")
_FROM_SCHEMA = re.compile(r"^at \d+\(\d+\): failed to compile JSON schema: ")
_UNKNOWN = re.compile(r"^Unimplemented keys: \[(.*)\]$")


class CompiledFormat:
    """A format that answers can have. `example` is a whole text in it."""

    def __init__(self, answer_format: AnswerFormat, limits: FormatLimits) -> None:
        self.format = answer_format
        self._limits = limits
        _check_size(answer_format, limits)
        self._grammar = _grammar(answer_format, limits)
        self._roots: WeakKeyDictionary[GrammarVocabulary, LLMatcher] = WeakKeyDictionary()
        self._lock = Lock()
        self._spelled: WeakSet[GrammarVocabulary] = WeakSet()
        self.example = self._example()

    def start(self, vocabulary: GrammarVocabulary) -> LLMatcher:
        """A matcher at the beginning of an answer, in ids of the vocabulary."""
        with self._lock:
            if vocabulary not in self._roots:
                self._roots[vocabulary] = LLMatcher(
                    vocabulary.tokenizer,
                    self._grammar,
                    log_level=0,
                    limits=self._limits.of_parser(),
                )
            return self._roots[vocabulary].deep_copy()

    def check_spelled(self, model: str, vocabulary: GrammarVocabulary) -> None:
        """Raise ConfigError where no text in the format can be written in the vocabulary."""
        if vocabulary in self._spelled:
            return
        if self.example is None or not vocabulary.single_bytes.issuperset(self.example):
            found = self._search(vocabulary, by_bytes=False)
            if found.stuck is not None:
                piece, text = found.stuck
                after = f" after {text!r}" if text else ""
                raise ConfigError(
                    f"{model} cannot write this format: its vocabulary has no token for {piece}, "
                    f"which it asks for{after}; use models that have one, or another format"
                )
        self._spelled.add(vocabulary)

    def _example(self) -> bytes | None:
        """A text in the format; None where none was found and there may be one. Raises ConfigError
        where there is none."""
        found = self._search(byte_vocabulary(), by_bytes=True)
        if found.error is not None and "ff_tokens" in found.error:
            raise ConfigError(
                f"{self.format.kind}: what must follow in it is too long, or has no end"
            )
        if found.error is not None:
            raise ConfigError(f"{self.format.kind}: too complex to follow: {readable(found.error)}")
        if found.stuck is not None:
            raise ConfigError(
                f"{self.format.kind}: no text has this format, not even an empty one: correct it"
            )
        # What refers to itself may go on for ever, and a search cannot tell that from an end that
        # is far away. A regular expression that can be begun can be ended.
        endless = self.format.kind == "grammar" or '"$ref"' in self.format.value
        if found.text is None and endless and self.format.kind != "regex":
            raise ConfigError(
                f"{self.format.kind}: no end was found: does it refer to itself without a way out? "
                "Add one"
            )
        return found.text

    def _search(self, vocabulary: GrammarVocabulary, *, by_bytes: bool) -> Search:
        return search(
            lambda: self.start(vocabulary),
            vocabulary,
            self.format.value,
            self._limits.search_seconds,
            by_bytes=by_bytes,
        )


@lru_cache(maxsize=_KEPT)
def compile_format(
    answer_format: AnswerFormat, limits: FormatLimits | None = None
) -> CompiledFormat:
    """The format, ready for use. Raises ConfigError where it is wrong, too large, or has no text.
    It may take a second, so it belongs in a thread."""
    return CompiledFormat(answer_format, limits or FormatLimits())


def _check_size(answer_format: AnswerFormat, limits: FormatLimits) -> None:
    if len(answer_format.value) > limits.size:
        raise ConfigError(
            f"{answer_format.kind} has {len(answer_format.value)} characters; the most that a "
            f"format may have are {limits.size}"
        )
    if answer_format.kind == "json":
        for path, _ in _parts(json.loads(answer_format.value)):
            if len(path) > limits.depth:
                where = ".".join(map(str, path[:4]))
                raise ConfigError(
                    f"json: {where}… lies more than {limits.depth} levels deep, the most there "
                    "may be"
                )


def _parts(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """All that is in a JSON value, with its path."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        path, part = waiting.pop()
        yield path, part
        if isinstance(part, Mapping):
            waiting += [((*path, key), inner) for key, inner in part.items()]
        elif isinstance(part, list):
            waiting += [((*path, index), inner) for index, inner in enumerate(part)]


def _grammar(answer_format: AnswerFormat, limits: FormatLimits) -> str:
    """The format in llguidance's notation. Raises ConfigError where it is none."""
    kind, value = answer_format.kind, answer_format.value
    if kind == "json":
        schema = json.loads(value)
        grammar = _schema_grammar(schema)
        if (problem := _problem(grammar, limits)) is not None:
            path, problem = _culprit(schema, problem, limits)
            where = "".join(f".{key}" for key in path)
            raise ConfigError(f"json{where}: {readable(problem)}")
        return grammar
    if kind == "grammar":
        try:
            lark = any_to_lark(value)
        except Exception as error:  # whatever the converter meets in a text that is no grammar
            raise ConfigError(
                f"grammar: neither Lark nor GBNF: {first_line(str(error))}"
            ) from error
    else:
        # Choices as one expression: alternatives of a grammar are followed one by one.
        choices = dict.fromkeys(json.loads(value)) if kind == "choice" else ()
        expression = "|".join(map(escape, choices)) if kind == "choice" else value
        lark = f"start: /{regex_to_lark(expression)}/"
    grammar = LLMatcher.grammar_from_lark(f"{lark}\n{_EVERY_SPELLING}")
    if (problem := _problem(grammar, limits)) is not None:
        raise ConfigError(f"{kind}: {readable(problem)}")
    return grammar


def _schema_grammar(schema: Mapping[str, Any]) -> str:
    text = json.dumps({**schema, "x-guidance": JSON_OPTIONS})
    return LLMatcher.grammar_from_lark(f"start: %json {text}\n{_EVERY_SPELLING}")


def _problem(grammar: str, limits: FormatLimits) -> str | None:
    """What is wrong with a grammar."""
    matcher = LLMatcher(
        byte_vocabulary().tokenizer, grammar, log_level=0, limits=limits.of_parser()
    )
    return matcher.get_error() if matcher.is_error() else None


def _culprit(
    schema: Mapping[str, Any], problem: str, limits: FormatLimits
) -> tuple[tuple[str | int, ...], str]:
    """The path of the smallest part of a schema that is wrong by itself, and what is wrong."""
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    path: tuple[str | int, ...] = ()
    part: Any = schema
    looked = 0
    while True:
        for key, inner in _subschemas(part):
            looked += 1
            if looked > _PATHS:
                return path, problem
            wrong = _problem(_schema_grammar({**shared, **inner}), limits)
            if wrong is not None and not (inner.keys() <= shared.keys()):
                path, part, problem = (*path, *key), inner, wrong
                break
        else:
            return path, problem


_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")


def _subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The schemas right inside a schema, each with the keys that lead to it."""
    for key in _OF_NAMES:
        for name, inner in _items(schema.get(key)):
            yield (key, name), inner
    for key in _LISTS:
        for index, inner in _items(schema.get(key)):
            yield (key, index), inner
    for key in _SINGLE:
        if isinstance(inner := schema.get(key), Mapping):
            yield (key,), inner


def _items(value: Any) -> Sequence[tuple[str | int, Any]]:
    pairs: Any = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    return [(key, inner) for key, inner in pairs if isinstance(inner, Mapping)]


def escape(text: str) -> str:
    """A regular expression that matches this text alone."""
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", text)


def readable(problem: str) -> str:
    """What llguidance says, in a sentence of ours."""
    text = _FROM_SCHEMA.sub("", problem.strip())
    if (found := _UNKNOWN.match(first_line(text))) is not None:
        return f"{found[1]} is not supported: leave it out, since no answer could be held to it"
    _, of_expression, why = text.partition("\nerror: ")
    return first_line(why) if of_expression else first_line(text)
