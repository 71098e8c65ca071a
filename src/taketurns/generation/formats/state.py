"""Where an answer stands in its format."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

from taketurns.checkpoints.grammar_vocabulary import GrammarVocabulary
from taketurns.config.policy import Policy
from taketurns.engines.base import ModelInfo
from taketurns.errors import ConfigError, FormatError
from taketurns.types import AnswerFormat

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from taketurns.generation.formats.constraint import GrammarConstraint
    from taketurns.generation.formats.grammar import CompiledFormat


class FormatState:
    """One answer's place in its format, for each of the speakers whose models are given.

    The answer is read as bytes, so its place does not depend on the speakers or their tokens. An
    answer that is restored or forked is read again from where it still agrees.
    """

    def __init__(self, compiled: CompiledFormat, speakers: Sequence[ModelInfo]) -> None:
        self._compiled = compiled
        self._speakers = tuple(speakers)
        self._reached: dict[GrammarVocabulary, tuple[bytes, LLMatcher]] = {}

    def constraint(self, speaker: int, written: bytes) -> GrammarConstraint:
        """What the speaker may write after what is `written` of the answer. Raises FormatError
        where that is not in the format."""
        from taketurns.generation.formats.constraint import GrammarConstraint

        info = self._speakers[speaker]
        vocabulary = info.codec.grammar_vocabulary
        reached = self._reached.get(vocabulary)
        if reached is None or not written.startswith(reached[0]):
            reached = b"", self._compiled.start(vocabulary)
        known, matcher = reached[0], reached[1].deep_copy()
        if not matcher.consume_tokens(vocabulary.spell(written[len(known) :])):
            raise FormatError(
                f"the answer so far, of {len(written)} bytes, does not begin a text in its "
                f"format ({self._compiled.format.kind}): begin it again"
            )
        self._reached[vocabulary] = written, matcher
        return GrammarConstraint(
            self._compiled.format, written, matcher.deep_copy(), vocabulary, info.name
        )

    def copy(self) -> FormatState:
        """The same, going on by itself from here."""
        twin = copy(self)
        twin._reached = dict(self._reached)
        return twin


def format_state(
    answer_format: AnswerFormat | None, policy: Policy, models: Sequence[ModelInfo]
) -> FormatState | None:
    """The place of an answer of which nothing is written, which these models write under the
    policy. Raises ConfigError where the format is wrong, or they cannot write in it. It may take a
    second, so it belongs in a thread."""
    if answer_format is None:
        return None
    from taketurns.generation.formats.grammar import compile_format

    if policy.closing_cue is not None:
        raise ConfigError(
            "closing_cue puts text into the answer that its format does not know: leave out one of "
            "the two"
        )
    compiled = compile_format(answer_format)
    whole = len(models) == 1 and policy.shortest >= policy.max_tokens
    for info in models:
        if "format" not in info.capabilities:
            _check_server(answer_format, info, whole)
        compiled.check_spelled(info.name, info.codec.grammar_vocabulary)
    return FormatState(compiled, models)


def _check_server(answer_format: AnswerFormat, info: ModelInfo, whole: bool) -> None:
    """Raise ConfigError where a model's servers, which keep to a format from its beginning only,
    would have to go on in the middle of one."""
    if "format_start" not in info.capabilities:
        raise ConfigError(
            f"{info.name} cannot be held to a format where it runs: use the local engine, or a "
            "vLLM server"
        )
    if answer_format.kind != "choice" and not whole:
        raise ConfigError(
            f"the servers of {info.name} keep to a format of kind {answer_format.kind} from its "
            "beginning only, and cannot go on with an answer that others began: use the local "
            "engine, ask one candidate alone, or use a format of kind choice"
        )
