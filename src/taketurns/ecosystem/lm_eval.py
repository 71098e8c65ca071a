"""A team as a model of lm-evaluation-harness (lm-eval 0.4.13).

    taketurns lm-eval run --model taketurns --model_args team=pocket --tasks gsm8k

`--model_args`: `team`, `speaker` (one candidate alone), `concurrency`, and any setting of the team,
as `policy.patch_size=32`. A task's generation settings (`max_gen_toks`, `temperature`, `top_p`,
`until`) are followed; greedy is its default. A prompt is one user's turn, which every candidate
puts into its own template; with --apply_chat_template the harness's turns are kept as turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from taketurns.ecosystem.asking import NO_LIKELIHOOD, answers, load_team, sampled_as
from taketurns.errors import UsageError
from taketurns.policy import Policy
from taketurns.types import Message, Query

HARNESS = frozenset({"batch_size", "max_batch_size", "device"})  # what it passes to any model


@register_model("taketurns")
class TeamLM(LM):
    """Answers requests that generate; refuses log-likelihoods."""

    def __init__(
        self,
        team: str = "pocket",
        speaker: str | None = None,
        concurrency: int = 32,
        **settings: Any,
    ) -> None:
        super().__init__()
        given = {key: value for key, value in settings.items() if key not in HARNESS}
        self._team = load_team(team, given, speaker)
        self._concurrency = concurrency
        self._conversations: dict[str, tuple[Message, ...]] = {}

    def generate_until(self, requests: list[Instance]) -> list[str]:
        asked = [(self._query(request), self._policy(request.args[1])) for request in requests]
        texts = [trace.text for trace in answers(self._team, asked, self._concurrency)]
        for request, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise UsageError(NO_LIKELIHOOD)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise UsageError(NO_LIKELIHOOD)

    @property
    def tokenizer_name(self) -> str:
        return "taketurns"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The turns as text for the harness's records; the team is asked the turns themselves."""
        turns = tuple(Message(turn["role"], turn["content"]) for turn in chat_history)  # type: ignore[arg-type]
        text = "\n\n".join(f"[{turn.role}]\n{turn.content}" for turn in turns)
        self._conversations[text] = turns
        return text

    def _query(self, request: Instance) -> Query:
        context = request.args[0]
        name = f"{request.task_name}/{request.doc_id}/{request.idx}"
        messages = self._conversations.get(context)
        if messages is not None:
            return Query(name, messages=messages)
        return Query(name, text=context)

    def _policy(self, settings: Mapping[str, Any]) -> Policy:
        until = settings.get("until") or ()
        temperature = settings.get("temperature")
        if not settings.get("do_sample", bool(temperature)):
            temperature = 0.0
        return sampled_as(
            self._team.policy,
            max_tokens=settings.get("max_gen_toks"),
            temperature=None if temperature is None else float(temperature),
            top_p=settings.get("top_p"),
            stop=[until] if isinstance(until, str) else _texts(until),
        )


def _texts(until: Sequence[Any]) -> list[str]:
    return [str(text) for text in until]
