#!/usr/bin/env bash
# xgrammar 0.2.9, GrammarCompiler.compile_json_schema: keywords of a JSON schema that it does not follow are left out
# without an error, a warning or a mark on what it returns (strict_mode=True and False alike). A text that the schema
# forbids is then accepted as complete, so that structured output is "valid" until somebody validates it. Among them are
# uniqueItems, contains, not, if/then, dependentRequired, maxProperties, the second part of an allOf, and a length beside
# a pattern. A pattern without anchors is read as if it had both, so that valid texts are refused. Other keywords
# (minProperties) are refused, so a caller cannot take silence for support. llguidance 1.9.1 refuses what it does not
# follow. Seen on 2026-11-30.
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
    ({"type": "object", "maxProperties": 1}, '{"a":1,"b":2}'),
    ({"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 5}]}, "6"),
    ({"type": "string", "pattern": "^a", "maxLength": 3}, '"abcd"'),
]
bytes_alone = xgrammar.TokenizerInfo([bytes([byte]) for byte in range(256)])
compiler = xgrammar.GrammarCompiler(bytes_alone)
tokenizer = llguidance.LLTokenizer("byte")


def takes(schema: dict, text: str, strict: bool) -> bool:
    compiled = compiler.compile_json_schema(json.dumps(schema), strict_mode=strict)
    matcher = xgrammar.GrammarMatcher(compiled, terminate_without_stop_token=True)
    return matcher.accept_string(text) and matcher.is_terminated()


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
    assert takes(schema, text, True) and takes(schema, text, False), "it keeps to this now"
    assert outcome.startswith("refuses")
assert takes({"type": "string", "pattern": "^b$"}, '"b"', True)
assert not takes({"type": "string", "pattern": "b"}, '"abc"', True), "a pattern is searched for now"
try:
    takes({"type": "object", "minProperties": 1}, '{"a":1}', True)
except RuntimeError as error:
    print("minProperties is refused:", str(error).strip().splitlines()[-1][:120])
else:
    raise AssertionError("minProperties is taken now")
PYTHON
