"""What is written reaches the next speaker whole, whatever the tokenizers: as ids where they mean
the same to all, as exact text otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from taketurns.checkpoints.control_tokens import RenderedPrompt
from taketurns.checkpoints.text import REPLACEMENT, SharedVocabulary, TextCodec
from taketurns.config.policy import Policy
from taketurns.engines.base import ModelInfo
from taketurns.engines.local.engine import LocalEngine
from taketurns.errors import LengthError
from taketurns.generation.handover import CandidateRuntime
from taketurns.generation.state import GenerationState
from taketurns.generation.team import Team
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Candidate, ModelSpec, Patch, Query

CONTROLS = ("<s>", "</s>", "<pad>", "<|user|>", "<|end|>")
SIGNS = "0123456789,.;:?! \n+-*/=()abcdefghijklmnopqrstuvwxyzQ"


def _finished(tokenizer: Any, controls: Sequence[str]) -> TextCodec:
    return TextCodec(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=controls[0], eos_token=controls[1]
        )
    )


def byte_level(controls_at: int) -> TextCodec:
    """One token a byte; its control tokens' ids begin at `controls_at`, among the ids that others
    of its kind give to letters, digits and spaces."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    order = [*letters[:controls_at], *CONTROLS, *letters[controls_at:]]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(order)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in CONTROLS])
    return _finished(tokenizer, CONTROLS)


def byte_fallback(controls_at: int) -> TextCodec:
    """As SentencePiece has it: letters, a space before the first word, and bytes for all else."""
    pieces = ["\u2581" if sign == " " else sign for sign in SIGNS] + ["\u2581the", "\u2581a"]
    order = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    order[controls_at:controls_at] = CONTROLS[:3]
    vocabulary = {text: i for i, text in enumerate(order)}
    merges = [("t", "h"), ("th", "e"), ("\u2581", "the"), ("\u2581", "a")]
    vocabulary |= {text: len(vocabulary) + i for i, text in enumerate(("th", "the"))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in CONTROLS[:3]])
    return _finished(tokenizer, CONTROLS)


def word_level() -> TextCodec:
    """Whole words and single signs, all of whose ids are other tokenizers' control tokens or
    bytes."""
    words = ["\u2581one", "\u2581two", "\u2581is", *("\u2581" if s == " " else s for s in SIGNS)]
    vocabulary = {text: i for i, text in enumerate(["<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in CONTROLS[:2]])
    return _finished(tokenizer, CONTROLS)


CODECS = (byte_level(0), byte_level(16), byte_fallback(260), byte_fallback(3), word_level())
NAMES = ("bytes-0", "bytes-16", "pieces-260", "pieces-3", "words")
PROMPT = "Q: how many is 7+5?\n"


def beyond_ascii(codec: TextCodec) -> list[int]:
    """Tokens of single bytes that are no characters by themselves."""
    return [
        token
        for text, token in codec.tokenizer.get_vocab().items()
        if REPLACEMENT in codec.decode([token]) or text == "<unk>"
    ]


def readers(*codecs: TextCodec) -> list[CandidateRuntime]:
    made = []
    for index, codec in enumerate(codecs):
        name = f"m{index}"
        ends = frozenset({int(codec.tokenizer.eos_token_id)})
        info = ModelInfo(name, 1 << 20, codec, ends, frozenset({"token_ids"}))
        made.append(CandidateRuntime(Candidate(name, ModelSpec(name, prompt="{text}")), info))
    return made


def plainly(codecs: Sequence[TextCodec], patches: Sequence[tuple[int, Sequence[int]]]) -> str:
    """What a plain loop makes of the answer: it decodes each patch after the whole prompt that its
    speaker read, and hands on the text, less the bytes of half a character."""
    text = ""
    for speaker, ids in patches:
        tokenizer = codecs[speaker].tokenizer
        prompt = tokenizer.encode(PROMPT + text, add_special_tokens=True)
        if prompt[-1] == tokenizer.eos_token_id:
            prompt = prompt[:-1]
        before = tokenizer.decode(prompt, skip_special_tokens=True)
        for half in range(4):  # ids of a character that is not finished
            whole = [*prompt, *ids[: len(ids) - half]]
            after = tokenizer.decode(whole, skip_special_tokens=True)
            if not after.endswith(REPLACEMENT) or len(ids) <= half:
                break
        text += after[len(before) :]
    return text


def written(
    codecs: Sequence[TextCodec], patches: Sequence[tuple[int, Sequence[int]]]
) -> GenerationState:
    """The same with a draft."""
    draft = GenerationState(Query("q", text=PROMPT), readers(*codecs), ())
    for speaker, ids in patches:
        draft.start_patch(speaker)
        text = "".join(draft.read([token]) for token in ids)
        draft.patches.append(Patch(speaker, tuple(ids), text, "length", "chosen"))
    draft.patches.append(Patch(None, (), draft.end(), "length", "forced"))
    return draft


WORDS = st.text(st.sampled_from(SIGNS + "é€😀\u00a0"), max_size=24)
TURNS = st.lists(st.tuples(st.integers(0, 1), WORDS, st.integers(0, 3)), max_size=6)


@pytest.mark.parametrize("second", range(len(CODECS)), ids=NAMES)
@pytest.mark.parametrize("first", range(len(CODECS)), ids=NAMES)
@settings(max_examples=25, deadline=None)
@given(turns=TURNS)
@example(turns=[(0, "7+5=12, yes.", 0), (1, "No: 0123456789!", 0), (0, "😀😀😀", 2), (1, "€", 0)])
def test_the_text_is_what_a_plain_loop_makes(
    first: int, second: int, turns: list[tuple[int, str, int]]
) -> None:
    """Fault: control ids of all candidates were united and dropped from everybody's tokens, so
    another's digits, commas and spaces were lost. Some patches end inside a character."""
    codecs = (CODECS[first], CODECS[second])
    patches = []
    for speaker, words, cut in turns:
        ids = codecs[speaker].encode_after(words)
        if first == second and "pieces" in NAMES[first]:
            cut = 0  # its decoder gives up whole characters before a half one
        patches.append((speaker, ids[: len(ids) - cut]))
    draft = written(codecs, patches)
    text = "".join(patch.text for patch in draft.patches)
    if draft.exact:  # a character may be begun by one speaker and finished by the next
        ids = [token for _, patch in patches for token in patch]
        assert text == plainly(codecs, [(0, ids)])
    else:
        assert text == plainly(codecs, patches)
        for speaker, codec in enumerate(codecs):
            assert draft.prompt(speaker) == codec.encode(PROMPT + text, special=True)


def test_ids_are_shared_exactly_where_they_mean_the_same() -> None:
    same = byte_level(0)
    assert SharedVocabulary.of([CODECS[0], same]) is not None
    for index, codec in enumerate(CODECS):
        others = [other for place, other in enumerate(CODECS) if place != index]
        assert all(SharedVocabulary.of([codec, other]) is None for other in others)
    assert SharedVocabulary.of([same, CODECS[0], CODECS[1]]) is None


def test_control_tokens_and_ids_without_a_token_are_not_handed_over() -> None:
    codec = CODECS[1]
    shared = SharedVocabulary.of([codec])
    assert shared is not None
    eos = int(codec.tokenizer.eos_token_id)
    assert shared.ordinary([3, eos, 4, 9999]) == [3, 4]


def test_a_run_of_characters_from_bytes_shows_wherever_it_is_taken_up() -> None:
    """Fault: a decoder with byte fallback gives up all of a run of bytes that begins inside a
    character, so nothing of what followed was shown."""
    codec = CODECS[2]
    ids = codec.encode_after("😀" * 8)
    for cut in range(4, len(ids)):
        stream = codec.stream([*codec.encode("Q"), *ids[:cut]])
        shown = "".join(map(stream.push, ids[cut:])) + stream.flush()
        assert shown == "😀" * (8 - cut // 4)


def test_an_end_token_of_one_model_that_is_text_to_another_ends_only_its_own() -> None:
    """Fault: the ids of all models' end tokens ended everybody's patches, also an ordinary token
    such as a line break that one of them ends with."""
    codec = CODECS[0]
    newline = codec.encode("\n")[0]
    pair = readers(codec, codec)
    ends = pair[0].info.end_token_ids
    pair[1] = CandidateRuntime(
        pair[1].candidate,
        ModelInfo("m1", 1 << 20, codec, ends | {newline}, frozenset({"token_ids"})),
    )
    draft = GenerationState(Query("q", text=PROMPT), pair, ())
    assert draft.end_token_ids == tuple(ends)


def test_forced_text_has_ids_only_where_they_mean_the_same_to_all() -> None:
    shared = GenerationState(Query("q", text=PROMPT), readers(CODECS[0], CODECS[0]), ())
    assert shared.force(0, " So:").token_ids == tuple(CODECS[0].encode(" So:"))
    unlike = GenerationState(Query("q", text=PROMPT), readers(CODECS[0], CODECS[4]), ())
    assert unlike.force(0, " So:").token_ids == ()
    assert unlike.prompt(1) == CODECS[4].encode(PROMPT + " So:", special=True)
    taken_up = GenerationState(Query("q", text=PROMPT), readers(CODECS[0], CODECS[0]), ())
    taken_up.resume(unlike.patches)
    assert taken_up.prompt(0) == shared.prompt(0)


def test_a_text_is_read_once_however_often_its_ids_are_asked_for() -> None:
    """To make tokens of a long prompt takes its time, and a patch asks for its room, its prompt and
    where to go on."""
    read: list[str] = []

    class Counting(TextCodec):
        def encode_rendered(self, prompt: RenderedPrompt, special: bool = False) -> list[int]:
            read.append(prompt.text)
            return super().encode_rendered(prompt, special)

    counting = Counting(CODECS[3].tokenizer)
    draft = GenerationState(Query("q", text=PROMPT), readers(CODECS[0], counting), ())
    draft.start_patch(0)
    draft.read(CODECS[0].encode("and so, "))
    read.clear()
    first = draft.prompt(1)
    assert draft.room(1) > 0
    draft.start_patch(1)
    assert draft.prompt(1) == first
    assert len(read) == 1


@pytest.mark.parametrize("patch_size", [1, 7, 24])
async def test_models_of_unlike_tokenizers_write_one_answer(
    make_model: Callable[..., Path], patch_size: int
) -> None:
    """Random models whose control ids are each other's letters and digits, and whose vocabularies
    differ in size, against a plain loop over what each of them wrote."""
    codecs = [CODECS[1], CODECS[3], CODECS[4]]
    folders = [str(make_model(seed, codec.tokenizer)) for seed, codec in enumerate(codecs)]
    for folder, codec in zip(folders, codecs, strict=True):
        # Bytes at random are hardly ever characters, and how many signs stand for those that are
        # none is a matter of taste.
        GenerationConfig(
            eos_token_id=codec.tokenizer.eos_token_id, suppress_tokens=beyond_ascii(codec)
        ).save_pretrained(folder)
    candidates = [
        Candidate(f"m{index}", ModelSpec(folder, prompt="{text}"))
        for index, folder in enumerate(folders)
    ]
    engine = LocalEngine({candidate.name: candidate.spec for candidate in candidates})
    policy = Policy(patch_size=patch_size, max_tokens=48, temperature=1.0)
    async with Team(candidates, engine, FixedSwitcher([0, 1, 2, 1, 0]), policy) as team:
        for seed in range(6):
            trace = await team.agenerate(Query(str(seed), text=PROMPT), seed=seed)
            assert trace.error is None
            assert not trace.exact
            made = [(p.speaker, p.token_ids) for p in trace.patches if p.speaker is not None]
            assert trace.text == plainly(codecs, made)


async def test_ids_of_one_model_are_never_given_to_an_unlike_one(
    make_model: Callable[..., Path],
) -> None:
    """The ids that each model reads are those of its own tokenizer for the text so far."""
    codecs = [CODECS[0], CODECS[2]]
    candidates = [
        Candidate(f"m{index}", ModelSpec(str(make_model(index, codec.tokenizer)), prompt="{text}"))
        for index, codec in enumerate(codecs)
    ]
    engine = LocalEngine({candidate.name: candidate.spec for candidate in candidates})
    read: list[tuple[str, list[int]]] = []
    policy = Policy(patch_size=5, max_tokens=30)
    async with Team(candidates, engine, FixedSwitcher([0, 1]), policy) as team:
        draft = await team.draft(Query("q", text=PROMPT))
        async with team.answer(draft, 0) as answer:
            session = answer.session
            generate = session.generate

            async def watched(model: str, prompt: Any, *rest: Any) -> Any:
                if not read or read[-1][0] != model:  # otherwise it finishes a character
                    text = PROMPT + answer.text
                    assert list(prompt) == codecs[int(model[1])].encode(text, special=True)
                read.append((model, list(prompt)))
                return await generate(model, prompt, *rest)

            session.generate = watched  # type: ignore[method-assign]
            while not answer.ended:
                await asyncio.wait_for(answer.step(), 60)
    assert {model for model, _ in read} == {"m0", "m1"}


async def test_what_finishes_a_character_goes_on_from_the_bytes_that_began_it(
    make_model: Callable[..., Path], byte_tokenizer: Any, other_tokenizer: Any
) -> None:
    """Fault: the speaker was asked for the rest of a character after the text without its
    beginning, so it began another."""
    codecs = [TextCodec(byte_tokenizer), TextCodec(other_tokenizer)]
    candidates = [
        Candidate(f"m{index}", ModelSpec(str(make_model(index, codec.tokenizer)), prompt="{text}"))
        for index, codec in enumerate(codecs)
    ]
    engine = LocalEngine({candidate.name: candidate.spec for candidate in candidates})
    asked: list[tuple[str, list[int], tuple[int, ...]]] = []
    policy = Policy(patch_size=3, max_tokens=60, temperature=1.0)
    async with Team(candidates, engine, FixedSwitcher([0, 1]), policy) as team:
        draft = await team.draft(Query("q", text="hello"))
        async with team.answer(draft, 0) as answer:
            generate = answer.session.generate

            async def watched(model: str, prompt: Any, *rest: Any) -> Any:
                completion = await generate(model, prompt, *rest)
                asked.append((model, list(prompt), completion.token_ids))
                return completion

            answer.session.generate = watched  # type: ignore[method-assign]
            await answer.write()
    run_on = 0
    for (model, prompt, ids), (next_model, next_prompt, _) in pairwise(asked):
        if model == next_model:  # the speakers alternate, so this is the same patch
            assert next_prompt == [*prompt, *ids]
            run_on += 1
    assert run_on > 3


@pytest.mark.parametrize("length", [3000, 1_000_000])
def test_a_text_that_cannot_fit_is_refused_by_its_beginning(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """To make tokens of all of it takes hundreds of times its size in memory."""
    reader = CandidateRuntime(
        Candidate("a", ModelSpec("a", prompt="{text}")), _info(byte_level(0), 100)
    )
    encoded: list[int] = []
    encode = TextCodec.encode

    def spy(codec: TextCodec, text: str, special: bool = False) -> list[int]:
        encoded.append(len(text))
        return encode(codec, text, special)

    monkeypatch.setattr(TextCodec, "encode", spy)
    monkeypatch.setattr(TextCodec, "encode_rendered", lambda *_: pytest.fail("all of it was read"))
    with pytest.raises(
        LengthError, match="'q': the prompt has more than 544 tokens for a, but its"
    ):
        reader.prompt(Query("q", text="a" * length))
    assert encoded == [800]


def test_a_long_text_of_few_tokens_is_not_too_long() -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    spaces = ["\u0120" * 2**power for power in range(1, 7)]
    merges = [(one[: len(one) // 2], one[: len(one) // 2]) for one in spaces]
    vocabulary = {text: i for i, text in enumerate([*letters, *spaces])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in CONTROLS])
    reader = CandidateRuntime(
        Candidate("a", ModelSpec("a", prompt="{text}")), _info(_finished(tokenizer, CONTROLS), 100)
    )
    assert len(reader.prompt(Query("q", text=" " * 64 * 90)).ids) == 90
    with pytest.raises(LengthError, match="the prompt has 110 tokens"):
        reader.prompt(Query("q", text=" " * 64 * 110))


def _info(codec: TextCodec, context: int) -> ModelInfo:
    return ModelInfo("a", context, codec, frozenset(), frozenset())
