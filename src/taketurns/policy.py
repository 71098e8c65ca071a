"""How a team takes turns: every setting of the paper, with the paper's default.

The default draws each speaker from the switcher's probabilities by top-p 0.7 and gives it a patch
of 50 tokens, 512 tokens in all (arXiv 2510.09913).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from taketurns.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one answer. Lengths are in tokens, `opening` and `closing` are candidate
    indices.

    `top_p` is over speakers (1 draws from the switcher's whole distribution, `greedy_switcher`
    takes the most probable one); `temperature` and `speaker_top_p` are the speakers' own,
    temperature 0 makes them greedy. The closing speaker writes the last patch that the budget
    allows; with `closing_on_end` it also gets one patch when another speaker ends the answer, that
    end removed. `closing_cue` is text put before the closing patch; it is recorded as forced.
    """

    patch_size: int = 50
    top_p: float = 0.7
    opening: int | None = None
    closing: int | None = None
    closing_on_end: bool = False
    closing_cue: str | None = None
    max_tokens: int = 512
    temperature: float = 0.7
    speaker_top_p: float = 0.9
    stop: tuple[str, ...] = ()
    seed: int = 0
    greedy_switcher: bool = False

    @property
    def unruled(self) -> Policy:
        """The same without opening and closing speakers: whoever is chosen speaks."""
        return replace(self, opening=None, closing=None, closing_on_end=False, closing_cue=None)

    def __post_init__(self) -> None:
        _require(self.patch_size >= 1, f"patch_size must be at least 1, not {self.patch_size}")
        _require(self.max_tokens >= 1, f"max_tokens must be at least 1, not {self.max_tokens}")
        _require(0 < self.top_p <= 1, f"top_p must be above 0 and at most 1, not {self.top_p}")
        _require(
            0 < self.speaker_top_p <= 1,
            f"speaker_top_p must be above 0 and at most 1, not {self.speaker_top_p}",
        )
        _require(
            0 <= self.temperature < float("inf"),
            f"temperature must be 0 or more, not {self.temperature}",
        )
        _require(self.seed >= 0, f"seed must be 0 or more, not {self.seed}")
        _require(all(self.stop), "stop must not contain an empty string")
        for name, index in (("opening", self.opening), ("closing", self.closing)):
            _require(index is None or index >= 0, f"{name} must name a candidate, not {index}")
        for name in ("closing_cue", "closing_on_end"):
            _require(
                not getattr(self, name) or self.closing is not None,
                f"{name} needs a closing speaker",
            )
        _require(self.closing_cue != "", "closing_cue must be some text, or null for none")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConfigError(otherwise)
