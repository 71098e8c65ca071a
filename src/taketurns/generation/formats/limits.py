"""What a format may cost to read and to follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLParserLimits


@dataclass(frozen=True, slots=True)
class FormatLimits:
    """Bounds on one format. `size` is in characters; `depth` counts lists and objects inside each
    other; `symbols`, `fuel` and `states` are llguidance's of the grammar's size, of the work on its
    regular expressions when it is read, and of the memory that they take (1 to 2 kB a state).
    `search_seconds` of processor time bound the search for an end."""

    size: int = 1 << 17
    depth: int = 64
    symbols: int = 100_000
    fuel: int = 1_000_000
    states: int = 100_000
    search_seconds: float = 0.5

    def of_parser(self) -> LLParserLimits:
        """The same for llguidance."""
        from llguidance import LLParserLimits

        return LLParserLimits(
            initial_lexer_fuel=self.fuel,
            max_grammar_size=self.symbols,
            max_lexer_states=self.states,
            verbose_errors=False,
        )
