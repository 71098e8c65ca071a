"""The calls of Mistral's models: a JSON list after `[TOOL_CALLS]` or, of newer ones, the function's
name and its arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence

from taketurns.checkpoints.tool_calls.base import JsonRule, ToolCallFormat, alternatives
from taketurns.checkpoints.tool_calls.json_calls import arguments, call_schema, json_call, skip
from taketurns.checkpoints.tool_calls.reading import Feed, Pieces, TextPiece, held
from taketurns.checkpoints.tool_calls.records import Tool, ToolCall

_MARK = "[TOOL_CALLS]"
_LIST = re.compile(r"\s*\[\s*(?=\{)")
_NAMED = re.compile(r"\s*([\w.-]+)(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?\s*(?=\{)")
_BEFORE = re.compile(r"\s*(?:\[?\s*|[\w.-]+(?:\[[A-Z_]*\]?\w*)*\s*)\Z")
_COMMA = re.compile(r"\s*,\s*(?=\{)")
_BEFORE_COMMA = re.compile(r"\s*,?\s*\Z")
_END = re.compile(r"\s*\]")
_SPACE = re.compile(r"\s*\Z")


class Mistral(ToolCallFormat):
    """The mark is a control token, and mostly not part of the text: at the beginning of an answer
    it may be missing."""

    name = "mistral"
    teaching = (
        "To call functions, answer with\n"
        f'{_MARK}[{{"name": FUNCTION, "arguments": {{NAME: VALUE}}}}]\n'
        "and nothing else."
    )

    def pieces(self, feed: Feed) -> Pieces:
        yield from self._unmarked(feed)
        while True:
            at = feed.text.find(_MARK)
            if at >= 0:
                before = feed.take(at)
                text = before.rstrip()
                yield TextPiece(text)
                yield from self._calls(feed, before[len(text) :] + feed.take(len(_MARK)))
                continue
            keep = 0 if feed.ended else held(feed.text, _MARK)
            yield TextPiece(feed.take(len(feed.text) - keep))
            if feed.ended:
                return
            yield None

    def _unmarked(self, feed: Feed) -> Pieces:
        """Calls at the beginning of the answer, as far as its first words are those of one."""
        while True:
            named = _NAMED.match(feed.text)
            if _LIST.match(feed.text) or (named and named[1] in feed.names):
                yield from self._calls(feed, "")
                return
            if feed.ended or not self._may_call(feed):
                return
            yield None

    @staticmethod
    def _may_call(feed: Feed) -> bool:
        if not _BEFORE.match(feed.text):
            return False
        word = feed.text.strip().rstrip("[")
        return not word or any(name.startswith(word) for name in feed.names)

    @staticmethod
    def _calls(feed: Feed, before: str) -> Pieces:
        while True:
            if (begun := _LIST.match(feed.text)) is not None:
                before += feed.take(begun.end())
                while (yield from json_call(feed, before)):
                    if not (yield from skip(feed, _COMMA, _BEFORE_COMMA)):
                        break
                    before = ","
                yield from skip(feed, _END, _SPACE)
                return
            if (named := _NAMED.match(feed.text)) is not None:
                if named[1] in feed.names and not feed.full:
                    before += feed.take(named.end())
                    yield from arguments(feed, named[1], before)
                    return
                yield TextPiece(before)
                return
            if feed.ended or not _BEFORE.match(feed.text):
                yield TextPiece(before)
                return
            yield None

    def spell(self, calls: Sequence[ToolCall]) -> str:
        listed = (f'{{"name": "{call.name}", "arguments": {call.arguments}}}' for call in calls)
        return f"{_MARK}[{', '.join(listed)}]"

    def grammar(self, tools: Sequence[Tool], json_rule: JsonRule, *, many: bool) -> str:
        schemas = [json_rule(call_schema(tool)) for tool in tools]
        calls = 'calls: "[" call (", " call)* "]"' if many else 'calls: "[" call "]"'
        return "\n".join((calls, alternatives("call", schemas)))
