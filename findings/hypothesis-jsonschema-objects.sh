#!/usr/bin/env bash
# hypothesis-jsonschema 0.23.1 (the newest) with hypothesis 6.170.15: from_schema() works for scalars and for arrays, and
# raises AttributeError for every object that may have a property, since it uses a private class of hypothesis that has
# lost a method. Its requirements allow this hypothesis, so pip installs the two together. Seen on 2026-11-30.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check hypothesis==6.170.15 hypothesis-jsonschema==0.23.1
"$here/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from hypothesis import given, settings
from hypothesis_jsonschema import from_schema

print("hypothesis", version("hypothesis"), "hypothesis-jsonschema", version("hypothesis-jsonschema"))


def draw(schema: dict) -> str:
    @settings(max_examples=5, database=None)
    @given(from_schema(schema))
    def look(value: object) -> None:
        del value

    try:
        look()
    except AttributeError as error:
        return f"AttributeError: {error}"
    return "drawn"


assert draw({"type": "integer"}) == "drawn"
assert draw({"type": "array", "items": {"type": "null"}}) == "drawn"
outcome = draw({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
print("an object:", outcome)
assert outcome == "AttributeError: 'many' object has no attribute 'more'", "objects can be drawn now"
PYTHON
