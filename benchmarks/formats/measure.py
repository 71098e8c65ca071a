"""What an answer in a format costs beside the same answer without one: a team of two candidates of
some 95 million parameters with a vocabulary of 49,152, answers of 128 tokens in patches of 16.

    python -m benchmarks.formats.measure

Each round writes the same answers with and without each format, one after the other. The ratio is
of processor time a token; it is the median of the rounds, between the lowest and the highest. The
formats have no end within the budget, so that all answers have the same length. What is done once a
format (`compiling`), once a vocabulary and once an answer is printed apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.formats.vocabulary import learned_tokenizer
from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.checkpoints.text import TextCodec
from taketurns.config.answer_format import read_format
from taketurns.engines.local.engine import LocalEngine
from taketurns.generation.formats.grammar import CompiledFormat
from taketurns.generation.formats.limits import FormatLimits
from taketurns.switchers.simple import RandomSwitcher

VOCABULARY = 49_152
TOKENS = 128
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 10, "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 4},
        "note": {"type": ["string", "null"], "maxLength": 80},
    },
    "required": ["name", "age", "email", "tags", "note"],
    "additionalProperties": False,
}
FORMATS: Mapping[str, Any] = {
    "JSON by a schema": {"json": {"type": "array", "items": PERSON, "minItems": 500}},
    "any JSON": {"json": {"type": "array", "minItems": 2000}},
    "expression": {"regex": "([A-Z][a-z]{2,12} ([0-9]{1,4}|[a-z]+)[,;] ?){500}"},
}


def main() -> None:
    """Print a JSON line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with TemporaryDirectory() as home:
        specs = _models(Path(home))
        _print_once(specs["one"])
        candidates = [Candidate(name, spec) for name, spec in specs.items()]
        policy = Policy(max_tokens=TOKENS, patch_size=16, temperature=1.0)
        engine = LocalEngine(specs, threads=arguments.threads)
        with Team(candidates, engine, RandomSwitcher(), policy) as team:
            for batch in arguments.batches:
                _compare(team, batch, arguments.rounds)


def _models(home: Path) -> dict[str, ModelSpec]:
    tokenizer = learned_tokenizer(VOCABULARY)
    specs = {}
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        config = LlamaConfig(
            hidden_size=640,
            num_hidden_layers=12,
            num_attention_heads=10,
            num_key_value_heads=10,
            intermediate_size=1920,
            vocab_size=VOCABULARY,
            tie_word_embeddings=True,
            max_position_embeddings=2048,
            bos_token_id=None,
            eos_token_id=None,
        )
        LlamaForCausalLM(config).save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
        specs[name] = ModelSpec(str(home / name), prompt="{text}")
    return specs


def _print_once(spec: ModelSpec) -> None:
    codec = TextCodec.load(spec)
    begun = time.process_time()
    vocabulary = codec.grammar_vocabulary
    assert vocabulary.tokenizer
    print(json.dumps({"vocabulary": codec.size, "seconds": time.process_time() - begun}))
    for name, entry in FORMATS.items():
        answer_format = read_format(entry)
        assert answer_format is not None
        begun = time.process_time()
        compiled = CompiledFormat(answer_format, FormatLimits())
        seconds = time.process_time() - begun
        compiled.start(vocabulary)
        begun = time.process_time()
        compiled.start(vocabulary)
        answer = time.process_time() - begun
        print(json.dumps({"format": name, "compiling": seconds, "an answer": answer}))


def _compare(team: Team, batch: int, rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ("none", *FORMATS)}
    for number in range(rounds + 1):
        for name in seconds:
            entry = None if name == "none" else FORMATS[name]
            policy = replace(team.policy, format=read_format(entry))
            begun = time.process_time()
            traces = team.generate([str(i) for i in range(batch)], seed=number, policy=policy)
            spent = time.process_time() - begun
            written = sum(len(patch.token_ids) for trace in traces for patch in trace.patches)
            # The models have no end token, so that answers without a format are as long.
            assert written == batch * TOKENS, (name, written, traces[0].error)
            if number:  # the first round warms caches up
                seconds[name].append(spent / written)
    for name in FORMATS:
        ratios = [mine / plain for mine, plain in zip(seconds[name], seconds["none"], strict=True)]
        print(
            json.dumps(
                {
                    "batch": batch,
                    "format": name,
                    "ratio": round(median(ratios), 3),
                    "from": round(min(ratios), 3),
                    "to": round(max(ratios), 3),
                    "ms a token without": round(1000 * median(seconds["none"]), 2),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
