"""What speakers and the switcher read, to the letter."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from typing import Any

import pytest

from taketurns.checkpoints import chat_templates
from taketurns.checkpoints.control_tokens import RenderedPrompt
from taketurns.checkpoints.prompts import TaggedTrace, digit_ids, encode_speaker, render_speaker
from taketurns.checkpoints.text import SharedVocabulary, TextCodec
from taketurns.engines.scripted import scripted_codec
from taketurns.errors import ConfigError, PromptError
from taketurns.types import Message, ModelSpec, Patch, Query

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if not loop.last or m.role != "
    "'assistant' %}</{{ m.role }}>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
QUERY = Query("q", text="Where is it?")


@pytest.fixture
def chatty(byte_tokenizer: Any) -> TextCodec:
    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.chat_template = TEMPLATE
    return TextCodec(tokenizer)


def patch(speaker: int | None, text: str) -> Patch:
    ids = tuple(scripted_codec().encode(text))
    return Patch(speaker, ids, text, "length", "chosen" if speaker is not None else "forced")


def text(spec: ModelSpec, codec: TextCodec, query: Query) -> str:
    return render_speaker(spec, codec, query).text


def tagged(query: Query = QUERY, codec: TextCodec | None = None, **options: Any) -> TaggedTrace:
    codec = codec or scripted_codec()
    vocabulary = SharedVocabulary.of([codec])
    return TaggedTrace(codec, query, range(3), **{"vocabulary": vocabulary} | options)


def test_the_switchers_prompt_is_the_methods() -> None:
    prompt = tagged().prompt([patch(0, "It is"), patch(2, " here.")])
    assert scripted_codec().decode(prompt) == (
        "Where is it? <model 0 begins> It is <model 0 ends> <model 2 begins>  here. <model 2 ends>"
        " Which model should generate the next segment? Please respond with a number from 0 to 2."
        " The answer is model "
    )


def test_a_longer_trace_begins_with_the_tokens_of_the_shorter() -> None:
    """So an engine that keeps its cache encodes only the last patch and the question."""
    grown = tagged()
    patches = [patch(i % 3, f" patch {i}") for i in range(4)]
    question = len(tagged().prompt(())) - len(scripted_codec().encode("Where is it?"))
    for count in range(4):
        shorter = grown.prompt(patches[:count])
        longer = grown.prompt(patches[: count + 1])
        assert longer[: len(shorter) - question] == shorter[:-question]
    assert grown.prompt(patches) == tagged().prompt(patches)  # grown or built at once


def test_patches_reach_another_tokenizer_as_text(other_tokenizer: Any) -> None:
    codec = TextCodec(other_tokenizer)
    ids = tagged(codec=codec, vocabulary=None).prompt([patch(1, "the café")])
    assert "<model 1 begins> the café <model 1 ends>" in codec.decode(ids)


def test_control_tokens_of_a_speaker_are_not_the_switchers() -> None:
    """Fault: their ids, which mean something else or nothing to the switcher, were handed over."""
    codec, plain = scripted_codec(), patch(1, "It is")
    beyond = max(codec.tokenizer.get_vocab().values()) + 1
    ids = (codec.tokenizer.eos_token_id, *plain.token_ids, beyond)
    spoken = replace(plain, token_ids=ids)
    assert tagged().prompt([spoken]) == tagged().prompt([plain])


def test_forced_text_belongs_to_no_model() -> None:
    prompt = scripted_codec().decode(tagged().prompt([patch(0, "So"), patch(None, " then:")]))
    assert "<model 0 ends> then: Which model" in prompt


def test_the_trace_can_be_the_users_turn(chatty: TextCodec) -> None:
    prompt = tagged(codec=chatty, chat_template=True, vocabulary=None).prompt([patch(0, "It")])
    text = chatty.decode(prompt)
    assert text.startswith("<user>Where is it? <model 0 begins> It <model 0 ends> Which model")
    assert text.endswith("The answer is model </user><assistant>")
    with pytest.raises(ConfigError, match="no template"):
        tagged(chat_template=True)


def test_a_template_that_trims_gets_a_trimmed_question(chatty: TextCodec) -> None:
    chatty.tokenizer.chat_template = "[{{ messages[0].content | trim }}]"
    prompt = tagged(codec=chatty, chat_template=True).prompt(())
    assert chatty.decode(prompt).endswith("The answer is model]")


def test_a_number_of_two_tokens_is_refused() -> None:
    """Fault: "1" is found in "10". A pool whose numbers are not single tokens is not taken."""
    assert len(digit_ids(scripted_codec(), 10)) == 10
    with pytest.raises(ConfigError, match="does not write 10 as one token"):
        digit_ids(scripted_codec(), 11)


def test_a_speaker_reads_its_own_template(chatty: TextCodec) -> None:
    """Fault: the partial answer put into the user's turn. It continues the assistant's."""
    talk = Query(
        "t",
        messages=(
            Message("system", "Be kind."),
            Message("user", "Hi"),
            Message("assistant", "Hello"),
            Message("user", "Bye"),
        ),
    )
    spec = ModelSpec("m")
    assert text(spec, chatty, QUERY) == "<user>Where is it?</user><assistant>"
    assert text(spec, chatty, talk).endswith("<user>Bye</user><assistant>")
    unfinished = Query("u", messages=(Message("user", "Hi"), Message("assistant", "Well, ")))
    assert text(spec, chatty, unfinished) == "<user>Hi</user><assistant>Well, "
    begins = chatty.encode("<user>")[0]
    assert encode_speaker(spec, chatty, RenderedPrompt("<user>x"))[0] == begins


def test_a_base_model_reads_a_plain_prompt() -> None:
    codec = scripted_codec()
    assert text(ModelSpec("m"), codec, QUERY) == "Where is it?"
    plain = ModelSpec("m", prompt="Q: {text} A:")
    assert text(plain, codec, QUERY) == "Q: Where is it? A:"
    chat = Query("c", messages=(Message("user", "Hi"),))
    assert text(ModelSpec("m"), codec, chat) == "Hi\n"
    longer = Query(
        "c", messages=(*chat.conversation, Message("assistant", "Yo"), *chat.conversation)
    )
    assert text(ModelSpec("m"), codec, longer) == ("User: Hi\nAssistant: Yo\nUser: Hi\nAssistant:")


TURNS = (Message("user", "Hi"), Message("assistant", "Hello.\n"), Message("user", "Bye"))
SYSTEM = Message("system", "Be brief.")


@pytest.mark.parametrize(
    ("turns", "read"),
    [
        (TURNS[:1], "Question: Hi\nAnswer:"),
        (TURNS, "Question: Hi\nAnswer: Hello.\n\nQuestion: Bye\nAnswer:"),
        ((SYSTEM, *TURNS[:1]), "Be brief.\n\nQuestion: Hi\nAnswer:"),
        (TURNS[:2], "Question: Hi\nAnswer: Hello.\n"),  # begun, to the letter
        (
            (*TURNS, Message("assistant", " So")),  # a plain prompt's answer begins with its space
            "Question: Hi\nAnswer: Hello.\n\nQuestion: Bye\nAnswer: So",
        ),
        ((TURNS[1], *TURNS[:1]), "Hello.\n\nQuestion: Hi\nAnswer:"),
        ((TURNS[0], SYSTEM, TURNS[2]), "Be brief.\n\nQuestion: Hi\nBye\nAnswer:"),
        ((SYSTEM,), "Question: Be brief.\nAnswer:"),
        ((SYSTEM, Message("assistant", "Well")), "Be brief.\n\nWell"),
    ],
)
def test_a_conversation_repeats_a_plain_prompt(turns: tuple[Message, ...], read: str) -> None:
    """Fault: the transcript, "Assistant:" and all, was put into the one prompt's question."""
    spec = ModelSpec("m", prompt="Question: {text}\nAnswer:")
    assert text(spec, scripted_codec(), Query("c", messages=turns)) == read


def test_a_prompt_that_leaves_a_line_for_the_answer_keeps_it() -> None:
    spec = ModelSpec("m", prompt="## Question\n{text}\n## Answer\n")
    assert text(spec, scripted_codec(), Query("c", messages=TURNS)) == (
        "## Question\nHi\n## Answer\nHello.\n\n## Question\nBye\n## Answer\n"
    )


def test_a_prompt_that_ends_with_the_question_gets_a_transcript() -> None:
    """Nothing in it could tell who says what."""
    spec, codec = ModelSpec("m", prompt="A talk.\n{text}\n"), scripted_codec()
    assert text(spec, codec, Query("c", messages=TURNS)) == (
        "A talk.\nUser: Hi\nAssistant: Hello.\n\nUser: Bye\nAssistant:"
    )


@pytest.mark.parametrize("prompt", ["Question: {text}\nAnswer:", "{text}", "{text}\n"])
def test_one_message_is_read_as_the_same_text_is(prompt: str) -> None:
    spec, codec = ModelSpec("m", prompt=prompt), scripted_codec()
    asked = Query("c", messages=(Message("user", "Hi {text}\n"),))
    assert render_speaker(spec, codec, asked) == render_speaker(
        spec, codec, Query("c", text="Hi {text}\n")
    )


def test_the_switcher_reads_a_conversation_as_a_transcript() -> None:
    """One form whatever the candidates' prompts are, and a single question as itself."""
    one = tagged(Query("c", messages=(Message("user", "Where is it?"),)))
    assert one.prompt([patch(0, "It")]) == tagged().prompt([patch(0, "It")])
    prompt = scripted_codec().decode(tagged(Query("c", messages=TURNS)).prompt([patch(0, "So")]))
    assert prompt.startswith(
        "User: Hi\nAssistant: Hello.\n\nUser: Bye\nAssistant: <model 0 begins> So <model 0 ends> Wh"
    )


def test_a_template_that_refuses_is_a_clear_sentence(chatty: TextCodec) -> None:
    chatty.tokenizer.chat_template = "{{ raise_exception('no system turns') }}"
    with pytest.raises(
        PromptError, match="query 'q': the chat template refuses the conversation: no system"
    ):
        text(ModelSpec("m"), chatty, QUERY)


def test_a_template_that_takes_its_time_is_stopped(
    chatty: TextCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands after it in this thread is not watched any more."""
    monkeypatch.setattr(chat_templates, "SECONDS", 0.005)
    chatty.tokenizer.chat_template = (
        "{% for i in range(300) %}{% for j in range(300) %}{% endfor %}{% endfor %}done"
    )
    before = sys.gettrace()
    with pytest.raises(
        PromptError, match=r"query 'q': the chat template did not finish within 0.005"
    ):
        text(ModelSpec("m"), chatty, QUERY)
    assert sys.gettrace() is before
    monkeypatch.setattr(chat_templates, "SECONDS", 60)
    assert text(ModelSpec("m"), chatty, QUERY) == "done"
    assert sys.gettrace() is before
