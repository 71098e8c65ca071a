"""Tokens of real tokenizers: added words that are text, BOS, several ends, normalisers, no end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taketurns.checkpoints.text import TextCodec
from taketurns.config.policy import Policy
from taketurns.engines.base import ModelInfo
from taketurns.engines.local.engine import LocalEngine
from taketurns.generation.handover import CandidateRuntime
from taketurns.generation.state import GenerationState
from taketurns.generation.team import Team
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Candidate, ModelSpec, Query, Trace


def with_words(tokenizer: Any, *words: str) -> Any:
    """The tokenizer with added tokens that are no control tokens."""
    from tokenizers import AddedToken

    other = copy.deepcopy(tokenizer)
    other.add_tokens([AddedToken(word, special=False, normalized=False) for word in words])
    return other


def beginning(tokenizer: Any, end: bool = False) -> Any:
    """The tokenizer, putting BOS before a text, and EOS after it."""
    from tokenizers import processors

    other = copy.deepcopy(tokenizer)
    pattern = "<s> $A </s>" if end else "<s> $A"
    ids = [(token, other.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=pattern, pair=f"{pattern} $B", special_tokens=ids
    )
    return other


def reader(tokenizer: Any, name: str = "a") -> CandidateRuntime:
    info = ModelInfo(name, 900, TextCodec(tokenizer), frozenset(), frozenset({"token_ids"}))
    return CandidateRuntime(Candidate(name, ModelSpec("m")), info)


def passed(first: Any, second: Any, ids: Sequence[int]) -> tuple[GenerationState, str]:
    """A draft in which the first speaker wrote these ids, and what was shown of them."""
    draft = GenerationState(Query("q", text="so"), [reader(first), reader(second, "b")], ())
    draft.start_patch(0)
    shown = draft.read(ids) + draft.end()
    return draft, shown


def steer(folder: Path, say: Sequence[int]) -> None:
    """Make a checkpoint's model write these ids in turn, whatever it reads, and then over again.

    Each token's embedding is its own direction, the layers add nothing, and the output matrix maps
    each of the ids to the next."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    rows, width = weights["model.embed_tokens.weight"].shape
    assert rows <= width
    random = torch.randn(width, rows, generator=torch.Generator().manual_seed(0))
    table = torch.linalg.qr(random).Q.T.contiguous()
    output = torch.zeros(rows, width)
    following = dict(zip(say, [*say[1:], say[0]], strict=True))
    for token in range(rows):
        output[following.get(token, say[0])] += table[token]
    for name, weight in weights.items():
        if "o_proj" in name or "down_proj" in name:
            weight.zero_()
    weights |= {"model.embed_tokens.weight": table, "lm_head.weight": output}
    save_file(weights, path, metadata={"format": "pt"})


@pytest.fixture
def says(make_model: Callable[..., Path]) -> Callable[..., Path]:
    """A checkpoint that writes a text, or ids, over and over."""

    def make(tokenizer: Any, what: str | Sequence[int], **settings: Any) -> Path:
        folder = make_model(0, tokenizer=tokenizer, hidden_size=512, head_dim=16, **settings)
        ids = TextCodec(tokenizer).encode(what) if isinstance(what, str) else what
        assert len(set(ids)) == len(ids), "a token is followed by one and the same"
        steer(folder, ids)
        return folder

    return make


async def trace_of(
    folders: Sequence[Path], specs: Mapping[str, Any] | None = None, **policy: Any
) -> Trace:
    specs_of = {
        name: ModelSpec(str(folder), **(specs or {}))
        for name, folder in zip("abc", folders, strict=False)
    }
    settings = {"patch_size": 3, "max_tokens": 20, "temperature": 0.0} | policy
    team = Team(
        [Candidate(name, spec) for name, spec in specs_of.items()],
        LocalEngine(specs_of),
        FixedSwitcher(range(len(specs_of))),
        Policy(**settings),
    )
    async with team:
        return await team.agenerate("go")


WORDS = ("<think>", "</think>", "<tool_call>")


async def test_words_that_were_added_are_shown_and_handed_over(
    says: Callable[..., Path], byte_tokenizer: Any, other_tokenizer: Any
) -> None:
    first = with_words(byte_tokenizer, *WORDS)
    folder = says(first, "<think>ab</think>c")
    trace = await trace_of([folder, folder], max_tokens=9)
    assert trace.exact
    assert trace.text == "<think>ab</think>c<think>ab</think>"
    mixed = await trace_of([folder, says(other_tokenizer, "xyz")], max_tokens=9)
    assert not mixed.exact
    assert mixed.text.startswith("<think>ab")
    assert "</think>" not in mixed.patches[1].text


@given(st.lists(st.sampled_from([*WORDS, "a", " b", "\n", "é", "<"]), min_size=1, max_size=8))
def test_added_words_are_text_to_whoever_reads_them(parts: list[str]) -> None:
    text = "".join(parts)
    for first, second in (PAIR, PAIR[::-1]):
        draft, shown = passed(first, second, TextCodec(first).encode(text))
        codec = TextCodec(second)
        assert shown == text
        assert codec.decode(draft.prompt(1)) == "so" + text


def _pair() -> tuple[Any, Any]:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = []
    for skip in (0, 7):
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        letters = letters[skip:] + letters[:skip]
        tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(letters)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "</s>")])
        made.append(
            PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
        )
    return with_words(made[0], *WORDS), made[1]


PAIR = _pair()


@pytest.mark.parametrize("end", [False, True])
def test_one_bos_stands_at_the_very_front(
    byte_tokenizer: Any, other_tokenizer: Any, end: bool
) -> None:
    second = beginning(other_tokenizer, end)
    bos, eos = second.convert_tokens_to_ids(["<s>", "</s>"])
    draft, _ = passed(byte_tokenizer, second, TextCodec(byte_tokenizer).encode("abc"))
    ids = draft.prompt(1)
    assert ids[0] == bos
    assert bos not in ids[1:]
    assert eos not in ids
    forced = draft.force(1, " and").text
    assert forced == " and"
    assert draft.prompt(1).count(bos) == 1
    assert eos not in draft.prompt(1)


@pytest.mark.parametrize("same", [True, False])
async def test_a_bos_in_mid_answer_is_no_part_of_it(
    says: Callable[..., Path], byte_tokenizer: Any, other_tokenizer: Any, same: bool
) -> None:
    tokenizer = beginning(byte_tokenizer)
    bos = tokenizer.convert_tokens_to_ids("<s>")
    a, b, c = TextCodec(tokenizer).encode("abc")
    folder = says(tokenizer, [a, bos, b, c])
    other = folder if same else says(beginning(other_tokenizer), "xyz")
    trace = await trace_of([folder, other], max_tokens=8, patch_size=4)
    assert trace.exact is same
    assert "<s>" not in trace.text
    assert trace.text == ("abcabc" if same else "abcxyzx")
    assert bos in trace.patches[0].token_ids


async def test_each_of_several_ends_ends_an_answer(
    says: Callable[..., Path], byte_tokenizer: Any
) -> None:
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken("<turn>", special=True)]}
    )
    turn, eos = tokenizer.convert_tokens_to_ids(["<turn>", "</s>"])
    a, b, c = TextCodec(tokenizer).encode("abc")
    for last in (turn, eos):
        folder = says(tokenizer, [a, b, last, c])
        path = folder / "generation_config.json"
        path.write_text(json.dumps({"eos_token_id": [eos, turn]}))
        trace = await trace_of([folder, folder])
        assert (trace.text, trace.finish) == ("ab", "stop")


def normalising(kind: str) -> Any:
    """A tokenizer that reads a text as another: letters as small ones, compatible forms as one, or
    white space as SentencePiece has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = "▁abcdefghijklmnopqrstuvwxyzABC.,?fi1\n"
    vocabulary = {letter: i for i, letter in enumerate(["<unk>", *dict.fromkeys(alphabet)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.normalizer = {
        "lower": normalizers.Lowercase(),
        "nfkc": normalizers.NFKC(),
        "spaces": normalizers.Sequence([normalizers.Strip(), normalizers.Replace(" {2,}", " ")]),
    }[kind]
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "</s>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


LOSSY = {"lower": " ABC", "nfkc": "ﬁ①", "spaces": "a   b \n"}


@pytest.mark.parametrize("kind", LOSSY)
def test_what_a_normaliser_changes_changes_in_no_answer(byte_tokenizer: Any, kind: str) -> None:
    """Whoever reads through it reads what it makes of the text; the text itself stays."""
    lossy, text = normalising(kind), LOSSY[kind]
    draft, shown = passed(byte_tokenizer, lossy, TextCodec(byte_tokenizer).encode(text))
    assert shown == text
    codec = TextCodec(lossy)
    assert codec.decode(draft.prompt(1)) == codec.decode(codec.encode("so" + text))
    draft.start_patch(1)
    more = draft.read(lossy.convert_tokens_to_ids(["a", "b", "c"])) + draft.end()
    assert more == "abc"
    assert TextCodec(byte_tokenizer).decode(draft.prompt(0)) == "so" + text + "abc"


@pytest.mark.parametrize("kind", LOSSY)
async def test_what_it_writes_is_shown_as_it_was_decoded(
    says: Callable[..., Path], byte_tokenizer: Any, kind: str
) -> None:
    lossy = normalising(kind)
    ids = lossy.convert_tokens_to_ids(["▁", "A", "a", "\n", "B"])
    trace = await trace_of(
        [says(lossy, ids), says(byte_tokenizer, "xyz")], max_tokens=11, patch_size=5
    )
    assert trace.patches[0].text == " Aa\nB"
    assert trace.text.startswith(" Aa\nBxyz")


@pytest.mark.parametrize("stop", [(), ("never",), ("bca",)])
async def test_a_model_that_never_ends_is_ended(
    says: Callable[..., Path], byte_tokenizer: Any, stop: tuple[str, ...]
) -> None:
    folder = says(byte_tokenizer, "abc", eos_token_id=None)
    trace = await trace_of([folder, folder], stop=stop)
    if stop == ("bca",):
        assert (trace.text, trace.finish) == ("a", "stop")
    else:
        assert (trace.text, trace.finish) == (("abc" * 7)[:20], "length")
        assert trace.tokens == 20
