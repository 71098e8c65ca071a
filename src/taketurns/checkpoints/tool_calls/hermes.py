"""The calls of Hermes 2 and 3, Qwen 2.5 and 3, and others: JSON between `<tool_call>` tags."""

from __future__ import annotations

import re
from collections.abc import Sequence

from taketurns.checkpoints.tool_calls.base import JsonRule, ToolCallFormat, alternatives
from taketurns.checkpoints.tool_calls.json_calls import call_schema, json_call, skip
from taketurns.checkpoints.tool_calls.reading import Feed, Pieces, TextPiece, held
from taketurns.checkpoints.tool_calls.records import Tool, ToolCall

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_CLOSING = re.compile(rf"\s*{_CLOSE}")
_BEFORE_CLOSING = re.compile(
    r"\s*(?:" + "|".join(re.escape(_CLOSE[:n]) for n in range(len(_CLOSE))) + r")\Z"
)


class Hermes(ToolCallFormat):
    """A closing tag may be missing at the end of an answer."""

    name = "hermes"
    teaching = (
        "To call a function, write\n"
        f'{_OPEN}\n{{"name": FUNCTION, "arguments": {{NAME: VALUE}}}}\n{_CLOSE}'
    )

    def pieces(self, feed: Feed) -> Pieces:
        while True:
            at = feed.text.find(_OPEN)
            if at < 0:
                keep = 0 if feed.ended else held(feed.text, _OPEN)
                yield TextPiece(feed.take(len(feed.text) - keep))
                if feed.ended:
                    return
                yield None
                continue
            before = feed.take(at)
            text = before.rstrip()
            yield TextPiece(text)
            if (yield from json_call(feed, before[len(text) :] + feed.take(len(_OPEN)))):
                yield from skip(feed, _CLOSING, _BEFORE_CLOSING)

    def spell(self, calls: Sequence[ToolCall]) -> str:
        return "\n".join(
            f'{_OPEN}\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n{_CLOSE}'
            for call in calls
        )

    def grammar(self, tools: Sequence[Tool], json_rule: JsonRule, *, many: bool) -> str:
        each = alternatives("call", [json_rule(call_schema(tool)) for tool in tools])
        tagged = f'tagged: "{_OPEN}\\n" call "\\n{_CLOSE}"'
        calls = 'calls: tagged ("\\n" tagged)*' if many else "calls: tagged"
        return "\n".join((calls, tagged, each))
