"""vLLM as far as this package's own bookkeeping sees it: what an engine writes is a function of all
the tokens that it holds, an open request drops the last token of every turn, and it keeps the
interval between its outputs that it was opened with, as vLLM 0.32 does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import torch

from taketurns.engines.vllm.library import Library

WORDS = 200  # ids that a fake engine writes


class EngineDeadError(Exception):
    """An engine process has ended."""


@dataclass
class AsyncEngineArgs:
    """A few of vLLM's arguments."""

    model: str
    revision: str | None = None
    tokenizer: str | None = None
    tokenizer_revision: str | None = None
    trust_remote_code: bool = False
    dtype: str = "auto"
    max_model_len: int = 512
    block_size: int = 32
    enable_chunked_prefill: bool = True
    enable_prefix_caching: bool = True
    disable_log_stats: bool = False
    use_tqdm_on_load: bool = True
    enable_lora: bool = False
    max_lora_rank: int = 16
    max_loras: int = 1
    max_num_seqs: int = 128
    gpu_memory_utilization: float = 0.9
    kv_cache_memory_bytes: int | None = None
    num_gpu_blocks_override: int | None = None
    tensor_parallel_size: int = 1
    runner: str = "auto"
    device_ids: list[int] | None = None
    async_scheduling: bool = False
    distributed_executor_backend: str | None = None

    def create_engine_config(self) -> Any:
        if "unsupported" in self.model:
            raise ValueError("Model architectures ['Odd'] are not supported")
        model = SimpleNamespace(
            model=self.model,
            use_mla=False,
            is_hybrid=False,
            get_sliding_window=lambda: None,
            get_num_layers=lambda parallel: 2,
            get_num_kv_heads=lambda parallel: 2,
            get_head_size=lambda: 16,
            dtype=torch.float32,
            max_model_len=self.max_model_len,
        )
        return SimpleNamespace(
            arguments=self,
            model_config=model,
            parallel_config=SimpleNamespace(
                tensor_parallel_size=self.tensor_parallel_size, pipeline_parallel_size=1
            ),
            cache_config=SimpleNamespace(
                num_gpu_blocks=64,
                block_size=self.block_size,
                kv_cache_memory_bytes=None,
                gpu_memory_utilization=self.gpu_memory_utilization,
            ),
            scheduler_config=SimpleNamespace(
                max_num_seqs=self.max_num_seqs, async_scheduling=self.async_scheduling
            ),
            use_v2_model_runner=False,
        )


@dataclass
class SamplingParams:
    """The parameters that are used."""

    output_kind: str
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False
    seed: int | None = None
    stop_token_ids: list[int] = field(default_factory=list)
    logit_bias: dict[int, float] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    detokenize: bool = True
    structured_outputs: Any = None
    stream_interval: int | None = None


@dataclass
class FakeLLM:
    """An engine. `asked` has the tokens of each input, `open` the requests that have not ended,
    `outputs` is the number of its outputs. `dead` it answers no more; each of its tokens waits for
    `pause`."""

    vllm_config: Any
    executor: Any
    asked: list[list[int]] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    dead: bool = False
    ended: bool = False
    end_after: int | None = None
    outputs: int = 0
    pause: Callable[[], Any] | None = None

    @property
    def errored(self) -> bool:
        return self.dead

    def shutdown(self, timeout: float | None = None) -> None:
        self.ended = True

    async def add_lora(self, adapter: Any) -> None:
        if "wrong" in adapter.path:
            raise ValueError("no such target module")

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, lora_request: Any = None
    ) -> AsyncIterator[Any]:
        if self.dead:
            raise EngineDeadError
        assert request_id not in self.open
        self.open.add(request_id)
        try:
            if isinstance(prompt, AsyncGenerator):
                held: list[int] = []
                written = 0
                async for given in prompt:
                    held += given.prompt["prompt_token_ids"]
                    self.asked.append(list(given.prompt["prompt_token_ids"]))
                    turn = replace(given.sampling_params, stream_interval=params.stream_interval)
                    async for output in self._write(held, turn, written):
                        written += len(output.outputs[0].token_ids)
                        yield output
                    held.pop()  # drawn, and not computed
            else:
                held = prompt["prompt_token_ids"]
                self.asked.append(list(held))
                async for output in self._write(held, params):
                    yield output
        finally:
            self.open.discard(request_id)

    async def _write(
        self, held: list[int], params: SamplingParams, earlier: int = 0
    ) -> AsyncIterator[Any]:
        tokens, reports = list[int](), list[Any]()
        for number in range(1, params.max_tokens + 1):
            if self.pause is not None:
                await self.pause()
            if self.dead:
                raise EngineDeadError
            token = following(held)
            told = [token, *(params.logprob_token_ids or ())]
            reported = {i: SimpleNamespace(logprob=-((i + len(held)) % 7)) for i in told}
            held.append(token)
            finish = None
            if token in params.stop_token_ids:
                finish = "stop"
            elif number == params.max_tokens or number == self.end_after:
                finish = "length"
            tokens.append(token)
            reports.append(reported)
            first = number == 1 and not earlier
            if finish or first or len(tokens) >= (params.stream_interval or 1):
                self.outputs += 1
                yield output(tokens, reports, finish)
                tokens, reports = [], []
            if finish:
                return


def output(tokens: list[int], reports: list[Any], finish: str | None, **more: Any) -> Any:
    completion = SimpleNamespace(token_ids=tokens, logprobs=reports, finish_reason=finish)
    return SimpleNamespace(
        outputs=[completion], num_cached_tokens=0, finished=finish is not None, **more
    )


def following(held: list[int]) -> int:
    """The token that the fake engine writes after these."""
    return sha256(repr(held).encode()).digest()[0] % WORDS


def fake_library(made: list[FakeLLM], *, cpu: bool = True) -> Library:
    """A library whose engines are added to `made`. Those for a model with "broken" in its name do
    not start."""

    def make(config: Any, executor: Any, **settings: Any) -> FakeLLM:
        if "broken" in config.model_config.model:
            raise RuntimeError("Engine core initialization failed")
        made.append(FakeLLM(config, executor))
        return made[-1]

    return Library(
        AsyncEngineArgs=AsyncEngineArgs,
        AsyncLLM=make,
        Executor=SimpleNamespace(get_class=lambda config: "executor"),
        tied=lambda executor, *, alone: f"tied {executor}{', alone' if alone else ''}",
        SamplingParams=SamplingParams,
        StructuredOutputsParams=SimpleNamespace,
        StreamingInput=lambda prompt, sampling_params: SimpleNamespace(
            prompt=prompt, sampling_params=sampling_params
        ),
        LoRARequest=lambda name, number, path: SimpleNamespace(name=name, path=path),
        DELTA="delta",
        EngineDeadError=EngineDeadError,
        refusals=(ValueError,),
        platform=SimpleNamespace(is_cpu=lambda: cpu, get_device_total_memory=lambda _: 80 << 30),
    )
