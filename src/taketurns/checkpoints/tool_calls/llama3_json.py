"""The calls of Llama 3.1, 3.2 and 3.3: the answer is JSON, with `parameters` for the arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence

from taketurns.checkpoints.tool_calls.base import JsonRule, ToolCallFormat, alternatives
from taketurns.checkpoints.tool_calls.json_calls import call_schema, json_call
from taketurns.checkpoints.tool_calls.reading import Feed, Pieces, TextPiece, held
from taketurns.checkpoints.tool_calls.records import Tool, ToolCall

_TAG = "<|python_tag|>"
_START = re.compile(r"\s*(?:\{|\Z)")
_TAGGED = re.compile(r"\s*" + re.escape(_TAG))
_BETWEEN = re.compile(r"\s*[;,]?\s*(?=\{)")
_MORE = re.compile(r"\s*[;,]?\s*\Z")


class Llama3Json(ToolCallFormat):
    """Calls are at the beginning of an answer, or after the tag, which is a control token and
    mostly not part of the text. Several are separated by semicolons."""

    name = "llama3_json"
    teaching = (
        "To call a function, answer with\n"
        '{"name": FUNCTION, "parameters": {NAME: VALUE}}\n'
        "and nothing else; write ; between several calls."
    )

    def pieces(self, feed: Feed) -> Pieces:
        while not feed.text.strip() and not feed.ended:
            yield None
        if _START.match(feed.text):
            yield from self._calls(feed, "")
        while True:
            at = feed.text.find(_TAG)
            if at >= 0:
                before = feed.take(at)
                text = before.rstrip()
                yield TextPiece(text)
                yield from self._calls(feed, before[len(text) :] + feed.take(len(_TAG)))
                continue
            keep = 0 if feed.ended else held(feed.text, _TAG)
            yield TextPiece(feed.take(len(feed.text) - keep))
            if feed.ended:
                return
            yield None

    @staticmethod
    def _calls(feed: Feed, before: str) -> Pieces:
        while (yield from json_call(feed, before)):
            while not (between := _BETWEEN.match(feed.text)):
                if feed.ended or not _MORE.match(feed.text):
                    return
                yield None
            before = feed.take(between.end())

    def spell(self, calls: Sequence[ToolCall]) -> str:
        return "; ".join(
            f'{{"name": "{call.name}", "parameters": {call.arguments}}}' for call in calls
        )

    def grammar(self, tools: Sequence[Tool], json_rule: JsonRule, *, many: bool) -> str:
        schemas = [json_rule(call_schema(tool, "parameters")) for tool in tools]
        calls = 'calls: call ("; " call)*' if many else "calls: call"
        return "\n".join((calls, alternatives("call", schemas)))
