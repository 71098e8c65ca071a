"""A folded head is the head: the same logits, the same answers, and nothing else changed."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from taketurns import ConfigError, DataError, Policy, Team
from taketurns.checkpoints.text import TextCodec
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.integrations.export.fold import fold
from taketurns.integrations.export.run import export_folded
from taketurns.integrations.export.spare import spare_tokens
from taketurns.switchers.head import View
from taketurns.types import ModelSpec

from .conftest import NAMES, Headed, random_head

QUESTIONS = ("what is 17 + 25 ?", "what does rebol fonul work as?", "how old is rebol fonul?")
GREEDY: dict[str, Any] = {"patch_size": 6, "max_tokens": 40, "temperature": 0.0}


def originals() -> dict[str, str]:
    return {one.name: one.spec.model for one in load_team_config("pocket").candidates}


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_of_the_reserved_tokens_are_the_heads(folded: Path, name: str) -> None:
    tokens = yaml.safe_load((folded / "team.yaml").read_text())["switcher"]["tokens"]
    head, reader = random_head(), NAMES.index(name)
    before = AutoModelForCausalLM.from_pretrained(originals()[name])
    after = AutoModelForCausalLM.from_pretrained(folded / name)
    ids = torch.randint(30, 400, (4, 50), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        states = before(ids, output_hidden_states=True).hidden_states[-1].flatten(0, 1)
        old, new = (model(ids).logits.flatten(0, 1) for model in (before, after))
    reserved = [tokens[one] for one in NAMES]
    wanted = torch.stack([head.logits(View(reader, reader, state)) for state in states])
    assert (new[:, reserved] - wanted).abs().max() < 1e-4
    others = [token for token in range(old.shape[1]) if token not in reserved]
    assert new[:, others].equal(old[:, others])
    assert after.get_input_embeddings().weight.equal(before.get_input_embeddings().weight)
    assert after.generation_config.suppress_tokens == sorted(reserved)


def test_each_candidate_alone_writes_what_it_wrote(folded: Path) -> None:
    with (
        Team.load("pocket", **GREEDY) as before,
        Team.load(folded / "local.yaml", **GREEDY) as after,
    ):
        for name in NAMES:
            for old, new in zip(
                before.alone(name).generate(list(QUESTIONS)),
                after.alone(name).generate(list(QUESTIONS)),
                strict=True,
            ):
                assert new.error is None
                assert new.text == old.text


def test_the_team_decides_as_it_did_with_the_head(folded: Path, headed: Headed) -> None:
    before = replace(headed(random_head()), policy=Policy(**GREEDY))
    with Team.load(before) as one, Team.load(folded / "local.yaml", **GREEDY) as other:
        spoke = set()
        for question in QUESTIONS:
            old, new = one.generate(question), other.generate(question)
            assert new.error is None
            assert new.text == old.text
            for mine, yours in zip(new.patches, old.patches, strict=True):
                assert mine.speaker == yours.speaker
                assert mine.probabilities == pytest.approx(yours.probabilities, abs=1e-5)
                spoke.add(mine.speaker)
        assert spoke == {0, 1, 2}


def test_the_reserved_tokens_are_never_written(headed: Headed, tmp_path: Path) -> None:
    """Not even by a head that makes them the most probable of all."""
    head = random_head()
    for scale in head.scales.values():
        scale.weight.mul_(100)
    export_folded(headed(head), tmp_path / "loud")
    with Team.load(tmp_path / "loud" / "local.yaml", patch_size=6, max_tokens=40) as team:
        for trace in team.generate(list(QUESTIONS), policy=replace(team.policy, temperature=1.5)):
            assert trace.error is None
            assert not {10, 11, 12} & {i for patch in trace.patches for i in patch.token_ids}


def test_a_killed_export_goes_on_and_a_finished_one_is_left(headed: Headed, tmp_path: Path) -> None:
    config, out = headed(random_head()), tmp_path / "out"
    export_folded(config, out)
    written = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    said: list[str] = []
    export_folded(config, out, said.append)
    assert said == [f"{out} is finished; nothing to do"]
    assert {path: path.stat().st_mtime_ns for path in written} == written
    (out / "team.yaml").unlink()
    (out / "sft" / "model.safetensors").rename(out / "sft" / "kept")
    (out / "aligned").rename(out / ".aligned.taketurns-draft")
    export_folded(config, out)
    assert {path.name for path in out.iterdir()} == {
        *NAMES,
        "local.yaml",
        "team.yaml",
        "local.yaml.manifest.json",
    }
    assert (out / "sft" / "kept").exists()
    other = random_head()
    other.scales["sft"].weight[0, 0] = 5
    for _ in ("finished", "killed"):
        with pytest.raises(DataError, match="belongs to another run, whose switcher differed"):
            export_folded(headed(other), out)
        (out / "team.yaml").unlink(missing_ok=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"other files already \(thesis.tex\)"):
        export_folded(config, tmp_path / "mine")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda head: head.bias.add_(1), "has a bias"),
        (lambda head: head.scales["sft"].mean.add_(1), "has a bias"),
    ],
)
def test_a_head_with_a_bias_is_refused(
    change: Callable[[Any], Any], why: str, headed: Headed, tmp_path: Path
) -> None:
    head = random_head()
    change(head)
    with pytest.raises(ConfigError, match=f"{why}.* --layer -1 --no-bias") as caught:
        export_folded(headed(head), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_other_switchers_are_refused(headed: Headed, tmp_path: Path) -> None:
    def refused(config: TeamConfig, why: str) -> None:
        with pytest.raises(ConfigError, match=why):
            export_folded(config, tmp_path / "out")

    refused(
        headed(random_head("candidate")),
        "always reads aligned, and only a head that reads the current",
    )
    refused(headed(random_head(layers=(2, 4))), "reads several layers")
    refused(headed(random_head(layers=(3,))), "reads layer 3 of pretrained, .* the last, 4")
    config = headed(random_head())
    refused(replace(config, switcher=replace(config.switcher, kind="random")), "of kind random")
    first, *rest = config.candidates
    for spec, why in (
        (replace(first.spec, adapter="some/adapter"), "pretrained is an adapter"),
        (replace(first.spec, quantization_config={"load_in_8bit": True}), "is quantised"),
    ):
        refused(replace(config, candidates=(replace(first, spec=spec), *rest)), why)


def test_a_model_without_spare_tokens_is_refused(
    headed: Headed, make_model: Callable[..., Path], byte_tokenizer: Any, tmp_path: Path
) -> None:
    config = headed(random_head())
    full = str(make_model(vocab_size=len(byte_tokenizer), num_hidden_layers=4))
    config = replace(
        config,
        candidates=tuple(replace(one, spec=ModelSpec(full)) for one in config.candidates),
    )
    with pytest.raises(ConfigError, match="0 spare tokens in common and the head needs 3") as no:
        export_folded(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    wide = run_cure(str(no.value), tmp_path) / "pretrained-wide"
    codec = TextCodec.load(ModelSpec(str(wide)))
    rows = AutoModelForCausalLM.from_pretrained(wide).get_output_embeddings().weight.shape[0]
    assert len(spare_tokens(codec, ModelSpec(str(wide)), frozenset(), rows, 3)) == 3


def run_cure(said: str, folder: Path) -> Path:
    """Do what a refusal says, in a folder; the folder."""
    _, python, command = said.partition("python -c ")
    assert python, said
    assert "\n" not in said
    with contextlib.chdir(folder), asked_by_an_old_name():
        exec(shlex.split(python + command)[2], {})
    return folder


def test_the_line_that_merges_an_adapter_is_given(
    headed: Headed, three_models: dict[str, str], tmp_path: Path
) -> None:
    base = three_models["m0"]
    lora = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False)
    with asked_by_an_old_name():
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    adapted.save_pretrained(tmp_path / "adapter")
    config = headed(random_head())
    first, *rest = config.candidates
    spec = ModelSpec(base, adapter=str(tmp_path / "adapter"))
    config = replace(config, candidates=(replace(first, spec=spec), *rest))
    with pytest.raises(
        ConfigError, match=r"is an adapter.* name pretrained-merged as its model: "
    ) as no:
        export_folded(config, tmp_path / "out")
    merged = run_cure(str(no.value), tmp_path) / "pretrained-merged"
    ids = torch.tensor([TextCodec.load(ModelSpec(str(merged))).encode("hello")])
    with torch.inference_mode():
        found = AutoModelForCausalLM.from_pretrained(merged)(ids).logits
        torch.testing.assert_close(found, adapted.eval()(ids).logits)


def test_what_counts_as_spare(byte_tokenizer: Any) -> None:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    own = PreTrainedTokenizerFast(
        tokenizer_object=type(byte_tokenizer.backend_tokenizer).from_str(
            byte_tokenizer.backend_tokenizer.to_str()
        ),
        bos_token="<s>",
        eos_token="</s>",
    )
    added = [
        "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>",
        "<unused7>",
        "<model 0 begins>",
        "<model 3 ends>",
        "<tool>",
    ]
    own.add_special_tokens({"additional_special_tokens": [AddedToken(t) for t in added]})
    own.pad_token = "<unused7>"
    own.chat_template = "{{ '<|reserved_special_token_1|>' }}"
    codec = TextCodec(own)
    first = own.convert_tokens_to_ids(added[0])
    found = spare_tokens(codec, ModelSpec("m"), frozenset({5}), len(own) + 3, 3)
    beyond = [len(own), len(own) + 1, len(own) + 2]
    assert found == [first, own.convert_tokens_to_ids("<model 3 ends>"), *beyond]
    ended = spare_tokens(codec, ModelSpec("m"), frozenset({first}), len(own), 4)
    assert ended == []


def test_logits_that_are_scaled_are_refused(
    make_model: Callable[..., Path], byte_tokenizer: Any
) -> None:
    from transformers import GraniteConfig

    codec = TextCodec(byte_tokenizer)
    rows = torch.ones(2, 64)
    for scaling in (1.0, 8.0):
        folder = make_model(config_class=GraniteConfig, logits_scaling=scaling)
        model = AutoModelForCausalLM.from_pretrained(folder)
        if scaling == 1:
            fold("one", model, codec, rows, [258, 259])
            continue
        with pytest.raises(ConfigError, match="logits of one are not its output matrix times"):
            fold("one", model, codec, rows, [258, 259])


def test_rows_beyond_the_tokenizer_will_do(make_model: Callable[..., Path]) -> None:
    """A matrix that is padded has rows that no tokenizer entry needs."""
    folder = make_model()
    codec = TextCodec.load(ModelSpec(str(folder)))
    rows = codec.size + 4
    assert spare_tokens(codec, ModelSpec(str(folder)), frozenset(), rows, 2) == [
        codec.size + i for i in range(4)
    ]
