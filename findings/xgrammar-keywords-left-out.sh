#!/usr/bin/env bash
# xgrammar 0.2.9, GrammarCompiler.compile_json_schema: keywords of a JSON schema that it does not follow are left out
# without an error or a mark on what it returns. A text that the schema forbids is then accepted as complete, and seems
# to be valid structured output. Seen of uniqueItems, contains, not, if/then, dependentRequired and the second part of
# an allOf, for which alone a line is written to standard error (strict_mode=False, in which JSON schema's own defaults
# hold). A pattern without anchors is read as if it had both, so that valid texts are refused ("^a" refuses "abc").
# llguidance 1.9.1 refuses what it does not follow. Seen on 2026-11-30.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
pip=("$here/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0 numpy pydantic transformers==5.23.0 apache-tvm-ffi llguidance==1.9.1
"${pip[@]}" --no-deps xgrammar==0.2.9 # its triton is for GPUs alone
"$here/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version

import llguidance
import xgrammar

FORBIDDEN = [
    ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "[1,1]"),
    ({"type": "array", "contains": {"type": "integer"}}, '["a"]'),
    ({"not": {"type": "integer"}}, "1"),
    ({"if": {"type": "integer"}, "then": {"minimum": 3}}, "2"),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, '{"a":1}'),
    ({"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 5}]}, "6"),
]
bytes_alone = xgrammar.TokenizerInfo([bytes([byte]) for byte in range(256)])
compiler = xgrammar.GrammarCompiler(bytes_alone)
tokenizer = llguidance.LLTokenizer("byte")


def takes(schema: dict, text: str) -> bool:
    compiled = compiler.compile_json_schema(json.dumps(schema), strict_mode=False)
    matcher = xgrammar.GrammarMatcher(compiled)
    return matcher.accept_string(text) and matcher.is_completed()


def other(schema: dict, text: str) -> str:
    grammar = llguidance.LLMatcher.grammar_from_json_schema(schema)
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
    if matcher.is_error():
        return "refuses the schema"
    ids = list(text.encode())
    whole = matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()
    return "takes the text" if whole else "refuses the text"


print("xgrammar", version("xgrammar"), "llguidance", version("llguidance"))
for schema, text in FORBIDDEN:
    outcome = other(schema, text)
    print(json.dumps(schema), "takes", text, "| llguidance", outcome)
    assert takes(schema, text), "it keeps to this now"
    assert outcome in ("refuses the schema", "refuses the text")
assert takes({"type": "string", "pattern": "^b$"}, '"b"')
assert not takes({"type": "string", "pattern": "^b"}, '"bc"'), "a pattern is searched for now"
PYTHON
