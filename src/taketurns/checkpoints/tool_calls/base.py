"""What a format of calls is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any

from taketurns.checkpoints.tool_calls.reading import Feed, Pieces, ToolCallReader
from taketurns.checkpoints.tool_calls.records import Tool, ToolCall

JsonRule = Callable[[Any], str]
"""A JSON schema as an expression of a grammar."""


class ToolCallFormat(ABC):
    """A way in which models write calls. `name` is vLLM's for the same; `teaching` says it to a
    model whose template does not."""

    name: str
    teaching: str

    def reader(self, names: Collection[str], most: int | None = None) -> ToolCallReader:
        """A reader of one answer, for calls of the functions `names`, at most `most` of them."""
        feed = Feed(names, most)
        return ToolCallReader(feed, self.pieces(feed))

    @abstractmethod
    def pieces(self, feed: Feed) -> Pieces:
        """The parser of one answer."""

    @abstractmethod
    def spell(self, calls: Sequence[ToolCall]) -> str:
        """Calls as a model writes them."""

    @abstractmethod
    def grammar(self, tools: Sequence[Tool], json_rule: JsonRule, *, many: bool) -> str:
        """The rule `calls` of a grammar in Lark's notation, and those that it needs: a call of one
        of the tools or, with `many`, any number of them. Raises ValueError for a tool whose
        calls no grammar describes in this format."""


def alternatives(rule: str, expressions: Sequence[str]) -> str:
    """A rule that is one of these expressions."""
    names = [f"{rule}_{index}" for index in range(len(expressions))]
    lines = [f"{rule}: {' | '.join(names)}"]
    lines += [f"{name}: {text}" for name, text in zip(names, expressions, strict=True)]
    return "\n".join(lines)
