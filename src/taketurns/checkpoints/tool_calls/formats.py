"""The formats of calls by their names."""

from __future__ import annotations

from collections.abc import Mapping

from taketurns.checkpoints.tool_calls.base import ToolCallFormat
from taketurns.checkpoints.tool_calls.hermes import Hermes
from taketurns.checkpoints.tool_calls.llama3_json import Llama3Json
from taketurns.checkpoints.tool_calls.mistral import Mistral
from taketurns.checkpoints.tool_calls.pythonic import Pythonic

PLAIN: ToolCallFormat = Hermes()
"""The format that models are told whose templates teach none."""

FORMATS: Mapping[str, ToolCallFormat] = {
    known.name: known for known in (PLAIN, Llama3Json(), Mistral(), Pythonic())
}
