"""A team as a custom model of lighteval (0.13): this file is its model definition.

    lighteval custom pocket "$(python -m taketurns.integrations)" "gsm8k|0"

The model's name is the team (file, folder, "pocket" or "smol") and its settings, separated by
commas: `team.yaml,policy.patch_size=32`; `speaker=NAME` uses only this candidate. Answers are
greedy unless these settings or the generation parameters have a temperature; several samples
(`num_samples`) use the team's own temperature. Generation parameters that a team does not follow
are refused by name. A prompt that does not fit a context has an empty answer, and a warning counts
these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lighteval.models.abstract_model import LightevalModel
from lighteval.models.custom.custom_model import CustomModelConfig
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.prompt_manager import PromptManager
from lighteval.tasks.requests import Doc
from lighteval.utils.cache_management import SampleCache

from taketurns.config.policy import Policy
from taketurns.config.settings import parse_setting
from taketurns.errors import UsageError
from taketurns.integrations.asking import GeneratesOnly, answer_all, load_team, with_sampling
from taketurns.integrations.settings import check_settings
from taketurns.types import Query
from taketurns.utils.sync import run_sync

CONCURRENCY = 32
FOLLOWED = frozenset({"max_new_tokens", "seed", "stop_tokens", "temperature", "top_p"})


class TeamModel(GeneratesOnly, LightevalModel):
    """Answers requests that generate."""

    def __init__(self, config: CustomModelConfig) -> None:
        name, *rest = config.model_name.split(",")
        settings = dict(parse_setting(setting) for setting in rest)
        speaker = settings.pop("speaker", None)
        self.config = config
        self._parameters = config.generation_parameters
        parameters = self._parameters.model_dump(exclude_none=True)
        check_settings(parameters, FOLLOWED, "lighteval", greedy=not self._parameters.temperature)
        self._sampled = "policy.temperature" in settings
        self._team = load_team(name, settings, None if speaker is None else str(speaker))
        self._prompts = PromptManager(use_chat_template=False, system_prompt=config.system_prompt)
        self._cache = SampleCache(config)  # required by the pipeline

    @property
    def tokenizer(self) -> Any:
        """The first candidate's tokenizer, with which lighteval measures lengths."""
        return run_sync(self._team.engine.info(self._team.candidates[0].name)).codec.tokenizer

    @property
    def add_special_tokens(self) -> bool:
        return False

    @property
    def max_length(self) -> int:
        """The shortest context of the candidates."""
        infos = [run_sync(self._team.engine.info(c.name)) for c in self._team.candidates]
        return min(info.context for info in infos)

    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        requests = [
            (Query(f"{doc.task_name}/{doc.id}/{sample}", text=prompt), self._policy(doc))
            for doc, prompt in zip(docs, map(self._prompts.prepare_prompt, docs), strict=True)
            for sample in range(doc.num_samples)
        ]
        traces = answer_all(self._team, requests, CONCURRENCY)
        texts = iter("" if trace is None else trace.text for trace in traces)
        return [
            ModelResponse(
                input=self._prompts.prepare_prompt(doc),
                text=[next(texts) for _ in range(doc.num_samples)],
            )
            for doc in docs
        ]

    def cleanup(self) -> None:
        self._team.close()

    def _policy(self, doc: Doc) -> Policy:
        """The policy of a question. Raises UsageError for a question with images."""
        if doc.images:
            raise UsageError(
                f"{doc.task_name}: a team reads only text: choose tasks without images"
            )
        parameters = self._parameters
        policy = with_sampling(
            self._team.policy,
            max_tokens=parameters.max_new_tokens or doc.generation_size,
            temperature=parameters.temperature or None,
            top_p=parameters.top_p,
            seed=parameters.seed,
            stop=[*(doc.stop_sequences or ()), *(parameters.stop_tokens or ())],
        )
        greedy = not self._sampled and not parameters.temperature and doc.num_samples == 1
        return replace(policy, temperature=0.0) if greedy else policy
