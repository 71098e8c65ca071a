"""What a message must say: what is wrong, where, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

RIDDLES = (
    "whoever", "whatever", "nobody", "somebody", "in vain", "is to blame", "to be said",
    "what stands there", "anybody", "nothing is known of", "reckon",
)  # fmt: skip
"""Words that a message must not have: it names the thing in their place."""

VERBS = (
    "add", "allow", "analyse", "answer", "ask", "begin", "build", "call", "change", "check",
    "choose", "compare", "connect", "convert", "copy", "correct", "count", "cut", "declare",
    "define", "delete", "describe", "download", "draw", "drop", "end", "enter", "evaluate",
    "export", "fetch", "fill", "fold", "free", "give", "go", "group", "increase", "install",
    "join", "keep", "leave", "let", "list", "load", "log", "lower", "make", "mend", "merge",
    "move", "name", "nest", "omit", "open", "pass", "pick", "point", "provide", "put", "quote",
    "raise", "reach", "read", "reduce", "reinstall", "remove", "rename", "repair", "repeat",
    "replace", "restart", "retry", "rewrite", "run", "sample", "save", "say", "see", "select",
    "send", "serve", "set", "shorten", "show", "shut", "specify", "split", "start", "state",
    "stop", "switch", "take", "train", "try", "turn", "unset", "update", "upgrade", "upload",
    "use", "wait", "widen", "write",
)  # fmt: skip
CURES = tuple(
    re.compile(pattern)
    for pattern in (
        # An imperative, at the beginning of a clause.
        r"(?:^|[;:,(] |[?] |\b(?:or|and|then|first|either|so|to) )"
        rf"(?:{'|'.join(VERBS)})\b",
        # What the value must be, or what there is to choose from.
        r"\b(?:must|should|may|can only|cannot exceed|has to|have to)\b",
        r"\b(?:is one of|are one of|instead|expected|did you mean|in place of|as in|such as)\b",
        r"\b(?:needs?|takes?|expects?|accepts?|requires?|allows?|at least|at most|above|below)\b",
        r"\b(?:are|is|has|have|knows|serves) \{",
        r"; (?:the|its|this|there)\b[^;]*\b(?:are|is|has|have|name)\b",
        r"\b(?:is|are) (?:written|named|called|numbered|needed|bundled)\b",
        r"\blists (?:what|them|the)\b",
    )
)
NAMED = re.compile(r"\{|--\w|'\w|\"\w|`|\b\w+[._]\w+\b|[A-Z]{2,}|^(?:the )?[a-z]+ must\b")
"""Something that a reader can find: a value, an option, a key, a file."""
REASON = re.compile(
    r"\{[^{}]*(?:error|reason|failure|why|fault|cause|cure|hint|sentence|problem|message|msg)[^{}]*\}"
)
"""The reason of a library, of the system or of another message, which says what to mend."""
GIVEN = re.compile(
    r"(?:cannot read|cannot write|not (?:valid )?(?:JSON|YAML)|not a (?:record|regular expression))"
    r"\b.*: \S"
)
"""Such a reason in a message that was really given."""


def _faults(text: str, *, given: bool = False) -> list[str]:
    """What a message lacks; one that is not `given` is the template of one, with `{…}` for its
    values."""
    found = [f"the word {word!r}" for word in RIDDLES if re.search(rf"\b{word}\b", text.lower())]
    if not NAMED.search(text):
        found.append("no value, key, option or file")
    reason = GIVEN.search(text) if given else REASON.search(text)
    if not reason and not any(cure.search(text.lower()) for cure in CURES):
        found.append("no cure")
    return found


@pytest.fixture(scope="session")
def faults() -> Callable[..., list[str]]:
    """Lists what a message lacks."""
    return _faults
