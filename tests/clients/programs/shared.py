"""What the programs have in common: where the server is, what is asked, and how a program reports.

A program has functions, each of which asks in one way. It reads their names from its input, a line
each, calls them, and writes what each returned as a line of JSON: a client that takes seconds to
import is imported once. CLIENT_URL is the API's root, with /v1, CLIENT_MODEL the model to name.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

URL = os.environ["CLIENT_URL"]
MODEL = os.environ["CLIENT_MODEL"]
KEY = os.environ.get("CLIENT_KEY", "none")
QUESTION = "Is Lisbon a town or a port, and is it old?"
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["town", "port"]},
        "old": {"type": "boolean"},
    },
    "required": ["kind", "old"],
    "additionalProperties": False,
}


def run(**modes: Callable[[], Any]) -> None:
    """Call the functions that the input names. Each returns a text, the pieces of a stream, or an
    object."""
    for line in sys.stdin:
        try:
            report = {"result": modes[line.strip()]()}
        except Exception:
            report = {"error": traceback.format_exc()}
        print("\nREPORT " + json.dumps(report), flush=True)
