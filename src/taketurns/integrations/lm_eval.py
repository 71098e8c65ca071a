"""A team as a model of lm-evaluation-harness (lm-eval 0.4.13).

    taketurns lm-eval run --model taketurns --model_args team=pocket --tasks gsm8k

`--model_args` takes `team`, `speaker` (only this candidate), `concurrency`, and any setting of the
team, such as `policy.patch_size=32`. A task's generation settings (`max_gen_toks` and its other
names, `temperature`, `top_p`, `do_sample`, `seed`, `until`) are followed, others are refused by
name; the harness's default is greedy. A prompt is one turn of the user, in each candidate's own
template; with --apply_chat_template the harness's turns stay turns. A prompt that does not fit a
context has an empty answer, and a warning counts these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from taketurns.config.policy import Policy
from taketurns.errors import UsageError
from taketurns.integrations.asking import GeneratesOnly, answer_all, load_team, with_sampling
from taketurns.integrations.settings import (
    LENGTH_NAMES,
    check_settings,
    max_length,
    parse_bool,
    parse_float,
    parse_int,
)
from taketurns.types import Message, Query

FOLLOWED = frozenset({*LENGTH_NAMES, "until", "do_sample", "temperature", "top_p", "seed"})
HARNESS = frozenset({"batch_size", "max_batch_size", "device"})  # passed to every model


@register_model("taketurns")
class TeamLM(GeneratesOnly, LM):
    """Answers requests that generate."""

    def __init__(
        self,
        team: str = "pocket",
        speaker: str | None = None,
        concurrency: int = 32,
        **settings: Any,
    ) -> None:
        super().__init__()
        team_settings = {key: value for key, value in settings.items() if key not in HARNESS}
        self._team = load_team(team, team_settings, speaker)
        self._concurrency = concurrency
        self._conversations: dict[str, tuple[Message, ...]] = {}

    def generate_until(self, requests: list[Instance]) -> list[str]:
        queries = [
            (self._query(request), self._policy(request.args[1], str(request.task_name)))
            for request in requests
        ]
        traces = answer_all(self._team, queries, self._concurrency)
        for request, trace in zip(requests, traces, strict=True):
            if trace is not None:  # a context may be longer next time
                self.cache_hook.add_partial("generate_until", request.args, trace.text)
        return ["" if trace is None else trace.text for trace in traces]

    @property
    def tokenizer_name(self) -> str:
        return "taketurns"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The turns as text for the harness's records; the team reads the turns themselves."""
        turns = tuple(Message(turn["role"], turn["content"]) for turn in chat_history)  # type: ignore[arg-type]
        text = "\n\n".join(f"[{turn.role}]\n{turn.content}" for turn in turns)
        self._conversations[text] = turns
        return text

    def _query(self, request: Instance) -> Query:
        if len(request.args) > 2:
            raise UsageError(
                f"{request.task_name}: a team reads only text: choose tasks without images or "
                "sounds"
            )
        context = request.args[0]
        name = f"{request.task_name}/{request.doc_id}/{request.idx}"
        messages = self._conversations.get(context)
        if messages is not None:
            return Query(name, messages=messages)
        return Query(name, text=context)

    def _policy(self, settings: Mapping[str, Any], where: str) -> Policy:
        """The policy of a request. Raises UsageError for a setting that a team does not follow."""
        temperature, top_p, seed = (settings.get(key) for key in ("temperature", "top_p", "seed"))
        if temperature is not None:
            temperature = parse_float(temperature, "temperature", where)
        sampled = settings.get("do_sample")
        if not (bool(temperature) if sampled is None else parse_bool(sampled, "do_sample", where)):
            temperature = 0.0
        check_settings(settings, FOLLOWED, where, greedy=temperature == 0)
        until = settings.get("until") or ()
        return with_sampling(
            self._team.policy,
            max_tokens=max_length(settings, where),
            temperature=temperature,
            top_p=None if top_p is None else parse_float(top_p, "top_p", where),
            seed=None if seed is None else parse_int(seed, "seed", where),
            stop=[until] if isinstance(until, str) else [str(text) for text in until],
        )
