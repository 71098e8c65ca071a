"""Two libraries that hold text to a JSON schema, side by side: which keywords they keep to, and
what a mask costs them.

    pip install xgrammar && python -m benchmarks.formats.libraries

Each schema comes with a text that is valid and one that is not. A library keeps to a schema if it
takes the one and not the other, refuses it if it says that it cannot, and is silently wrong if it
takes both or none. Times are of processor time, in microseconds, over the tokens of a text.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

import llguidance
import torch
import xgrammar

from benchmarks.formats.measure import PERSON, VOCABULARY
from benchmarks.formats.vocabulary import learned_tokenizer
from taketurns.checkpoints.text import TextCodec

Case = tuple[dict[str, Any], str, str]
CASES: Sequence[Case] = (
    ({"type": "integer"}, "12", "1.5"),
    ({"type": "integer", "minimum": 3, "maximum": 70}, "41", "71"),
    ({"type": "integer", "exclusiveMinimum": 3}, "4", "3"),
    ({"type": "number", "minimum": 0.5, "maximum": 1.5}, "1.25", "2.5"),
    ({"type": "integer", "multipleOf": 5}, "15", "16"),
    ({"type": "string", "minLength": 2, "maxLength": 3}, '"ab"', '"abcd"'),
    ({"type": "string", "minLength": 2, "maxLength": 3}, '"é中"', '"é"'),
    ({"type": "string", "pattern": "^[a-c]{2}$"}, '"ab"', '"abd"'),
    ({"type": "string", "pattern": "b"}, '"abc"', '"ac"'),
    ({"type": "string", "pattern": "^a", "maxLength": 3}, '"abc"', '"abcd"'),
    ({"type": "string", "format": "date"}, '"2026-02-28"', '"2026-2-28"'),
    ({"type": "string", "format": "date-time"}, '"2026-02-28T10:00:00Z"', '"yesterday"'),
    ({"type": "string", "format": "email"}, '"a@b.co"', '"a.b.co"'),
    ({"type": "string", "format": "uuid"}, '"123e4567-e89b-12d3-a456-426614174000"', '"12"'),
    ({"type": "string", "format": "ipv4"}, '"10.0.0.1"', '"10.0.0.256"'),
    ({"enum": ["a", 1, None]}, "null", "2"),
    ({"const": {"a": [1]}}, '{"a":[1]}', '{"a":[2]}'),
    ({"type": ["string", "null"]}, "null", "1"),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "null", "true"),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, "5", "true"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "1.5", "2"),
    (
        {"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 5}]},
        "4",
        "6",
    ),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}, "[1,2]", "[1]"),
    ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, "[1]", "[1,2]"),
    ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "[1,2]", "[1,1]"),
    ({"type": "array", "contains": {"type": "integer"}}, '["a",1]', '["a"]'),
    (
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        '{"a":1}',
        "{}",
    ),
    (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "additionalProperties": False,
        },
        '{"a":1}',
        '{"b":1}',
    ),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"x":1}', '{"x":"y"}'),
    (
        {
            "type": "object",
            "patternProperties": {"^a": {"type": "integer"}},
            "additionalProperties": False,
        },
        '{"ab":1}',
        '{"b":1}',
    ),
    ({"type": "object", "propertyNames": {"pattern": "^a"}}, '{"ab":1}', '{"b":1}'),
    ({"type": "object", "minProperties": 1}, '{"a":1}', "{}"),
    ({"type": "object", "maxProperties": 1}, '{"a":1}', '{"a":1,"b":2}'),
    ({"not": {"type": "integer"}}, '"a"', "1"),
    ({"if": {"type": "integer"}, "then": {"minimum": 3}}, "4", "2"),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, '{"a":1,"b":1}', '{"a":1}'),
    (
        {
            "$defs": {
                "n": {
                    "type": "object",
                    "properties": {"n": {"$ref": "#/$defs/n"}},
                    "additionalProperties": False,
                }
            },
            "$ref": "#/$defs/n",
        },
        '{"n":{"n":{}}}',
        '{"n":1}',
    ),
    ({"minLength": 2}, "1", '"a"'),
    ({"type": "integer", "maximum": 3, "minimum": 5}, "", "4"),
)
TEXT = (
    '{"name":"Ada Augusta Lovelace","age":36,"email":"ada@example.org","tags":["red"],"note":null}'
)


def main() -> None:
    """Print a JSON line for each library and each figure."""
    codec = TextCodec(learned_tokenizer(VOCABULARY))
    tokenizer = codec.grammar_vocabulary.tokenizer
    info = xgrammar.TokenizerInfo.from_huggingface(codec.tokenizer, vocab_size=VOCABULARY)
    compiler = xgrammar.GrammarCompiler(info, cache_enabled=False)

    def of_llguidance(schema: dict[str, Any]) -> Any:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            schema, overrides={"lenient": False}
        )
        matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def of_xgrammar(schema: dict[str, Any]) -> Any:
        # Its strict mode forbids properties that a schema allows.
        compiled = compiler.compile_json_schema(json.dumps(schema), strict_mode=False)
        return xgrammar.GrammarMatcher(compiled)

    def takes_llguidance(schema: dict[str, Any], text: str) -> bool:
        matcher = of_llguidance(schema)
        ids = codec.grammar_vocabulary.spell(text.encode())
        return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())

    def takes_xgrammar(schema: dict[str, Any], text: str) -> bool:
        matcher = of_xgrammar(schema)
        return bool(matcher.accept_string(text) and matcher.is_completed())

    _keywords("llguidance", takes_llguidance)
    _keywords("xgrammar", takes_xgrammar)
    ids = codec.encode(TEXT)
    bits = xgrammar.allocate_token_bitmask(1, VOCABULARY)
    _times("llguidance", of_llguidance, lambda m: m.compute_bitmask(), "consume_token", ids)
    _times("xgrammar", of_xgrammar, lambda m: m.fill_next_token_bitmask(bits), "accept_token", ids)


def _keywords(library: str, takes: Callable[[dict[str, Any], str], bool]) -> None:
    found: Counter[str] = Counter()
    wrong: list[tuple[str, dict[str, Any]]] = []
    for schema, valid, invalid in CASES:
        try:
            right = (not valid or takes(schema, valid)) and not takes(schema, invalid)
            outcome = "kept" if right else "silently wrong"
        except (ValueError, RuntimeError):
            outcome = "refused"
        found[outcome] += 1
        if outcome != "kept":
            wrong.append((outcome, schema))
    print(json.dumps({"library": library, **found}))
    for why, schema in wrong:
        print(json.dumps({"library": library, why: schema}))


def _times(
    library: str,
    make: Callable[[dict[str, Any]], Any],
    mask: Callable[[Any], object],
    consume: str,
    ids: Sequence[int],
) -> None:
    torch.set_num_threads(1)
    begun = time.process_time()
    make(PERSON)
    compiling = time.process_time() - begun
    masks = []
    for _ in range(5):
        matcher = make(PERSON)
        for token in ids:
            begun = time.process_time()
            mask(matcher)
            masks.append(time.process_time() - begun)
            assert getattr(matcher, consume)(token)
    print(
        json.dumps(
            {
                "library": library,
                "compiling": round(compiling * 1e6),
                "mask": round(mean(masks) * 1e6, 1),
                "longest mask": round(max(masks) * 1e6),
            }
        )
    )


if __name__ == "__main__":
    main()
