"""Renders all prompts of speakers and switchers.

A speaker's prompt is its chat template up to the start of the assistant's turn (for a base model a
plain prompt), then the answer so far, which it continues as its own. The switcher reads the query,
every patch between tags with its speaker's number, and a question whose answer is a digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

from taketurns.checkpoints.chat_templates import (
    TemplateRefusal,
    render_template,
    template_messages,
)
from taketurns.checkpoints.control_tokens import RenderedPrompt, marked, marks_for
from taketurns.checkpoints.text import SharedVocabulary, TextCodec
from taketurns.checkpoints.tool_calls.records import ToolConversation
from taketurns.errors import ConfigError, PromptError
from taketurns.types import Message, ModelSpec, Patch, Query

BEGINS = " <model {index} begins> "
ENDS = " <model {index} ends>"
QUESTION = (
    " Which model should generate the next segment? Please respond with a number from 0 to {last}."
    " The answer is model "
)
_SENTINEL = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Rendering:
    """How chat templates render a conversation, by the names that transformers and vLLM have for
    it. `continue_final_message` None: an assistant's last message is continued; False: the template
    closes it. `variables` (vLLM's `chat_template_kwargs`) are more names that a template can use.
    `tools` is the conversation for templates that know tools; the query has it as plain text, for
    all others.
    """

    add_generation_prompt: bool = True
    continue_final_message: bool | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    tools: ToolConversation | None = None

    def continues(self, query: Query) -> bool:
        """Is the conversation's last message the beginning of the answer?"""
        begun = query.conversation[-1].role == "assistant"
        return begun and self.continue_final_message is not False


AS_USUAL = Rendering()


def render_speaker(
    spec: ModelSpec, codec: TextCodec, query: Query, rendering: Rendering = AS_USUAL
) -> RenderedPrompt:
    """The text that a speaker continues. A plain `prompt` of the spec replaces the tokenizer's
    template.

    Raises PromptError if the template refuses the conversation, or there is none and `rendering`
    asks for what only a template can do.
    """
    if spec.prompt is None and codec.tokenizer.chat_template is not None:
        return _templated(codec, query, rendering)
    query, marks = marked(query, codec.control_pattern)
    _check_plain(query, rendering)
    text = plain_text(query) if spec.prompt is None else _fill(spec.prompt, query)
    return RenderedPrompt(text) if marks is None else marks.read(text)


def encode_speaker(
    spec: ModelSpec, codec: TextCodec, prompt: RenderedPrompt, written: str = ""
) -> list[int]:
    """Token ids of a rendered prompt and of the text `written` after it. A chat template has its
    own special tokens; a plain prompt gets those that the tokenizer puts before a text. Text of a
    query or of `written` that is spelled like a control token is ordinary text."""
    templated = spec.prompt is None and codec.tokenizer.chat_template is not None
    if written:
        prompt = prompt.followed_by(written, codec.control_pattern)
    return codec.encode_rendered(prompt, special=not templated)


def speaker_ids(
    spec: ModelSpec, codec: TextCodec, query: Query, rendering: Rendering = AS_USUAL
) -> list[int]:
    """Token ids of a speaker's prompt. Raises as `render_speaker` does."""
    return encode_speaker(spec, codec, render_speaker(spec, codec, query, rendering))


def plain_text(query: Query) -> str:
    """A query for a model without a template: its text, or its conversation as a transcript that
    ends where the assistant continues."""
    if query.text is not None:
        return query.text
    turns = query.conversation
    if len(turns) == 1:
        return turns[0].content + "\n"
    *earlier, last = turns
    lines = [f"{turn.role.capitalize()}: {turn.content}" for turn in earlier]
    if last.role != "assistant" or last.content:  # an empty last answer is not begun
        lines.append(f"{last.role.capitalize()}: {last.content}")
    if last.role != "assistant" or not last.content:
        lines.append("Assistant:")
    return "\n".join(lines)


def _fill(prompt: str, query: Query) -> str:
    """A plain prompt with the query in place of `{text}`.

    For a conversation the prompt is repeated: each question in its own prompt, followed by its
    answer, with blank lines between them and instructions first. So earlier turns show a base model
    the form, and the last prompt ends where the answer begins, or inside it. A prompt with nothing
    after `{text}` does not mark the beginning of an answer, so there a conversation is a
    transcript.
    """
    turns = query.conversation
    if len(turns) == 1 and turns[0].role == "user":
        return prompt.replace("{text}", turns[0].content)
    if prompt.rstrip().endswith("{text}"):
        return prompt.rstrip().replace("{text}", plain_text(query))
    instructions = [turn.content for turn in turns if turn.role == "system"]
    talk = [turn for turn in turns if turn.role != "system"]
    if not talk:
        return prompt.replace("{text}", "\n\n".join(instructions))
    shown, asked = instructions, False
    for role, run in groupby(talk, key=lambda turn: turn.role):
        content = "\n".join(turn.content for turn in run)
        if role == "user":
            shown.append(prompt.replace("{text}", content))
        elif not asked:  # a greeting
            shown.append(content)
        elif content:
            apart = shown[-1][-1:].isspace() or content[:1].isspace()
            shown[-1] += content if apart else f" {content}"
        asked = role == "user"
    return "\n\n".join([*(text.rstrip() for text in shown[:-1]), shown[-1]])


def _templated(codec: TextCodec, query: Query, rendering: Rendering) -> RenderedPrompt:
    """A conversation in the tokenizer's chat template, with its tools where the template has a
    place for them."""
    messages, variables = template_messages(query.conversation), dict(rendering.variables)
    if rendering.tools is not None and codec.template_tools.knows:
        messages = codec.template_tools.messages(rendering.tools.turns)
        if rendering.tools.tools:
            variables["tools"] = [dict(tool.entry) for tool in rendering.tools.tools]
    marks = marks_for(list(_texts([messages, variables])), codec.control_pattern)
    if marks is not None:
        mark = partial(marks.around, codec.control_pattern)
        messages = [{**_mapped(turn, mark), "role": turn["role"]} for turn in messages]
        variables = {name: _mapped(value, mark) for name, value in variables.items()}

    def render(turns: Sequence[Mapping[str, Any]], begin: bool) -> str:
        return render_template(codec.tokenizer, turns, begin=begin, variables=variables)

    try:
        if rendering.continues(query):
            text = _before_answer(messages, render) + messages[-1]["content"]
        else:
            text = render(messages, rendering.add_generation_prompt)
    except TemplateRefusal as error:
        raise PromptError(f"the chat template {error}", query.id) from error
    return RenderedPrompt(text) if marks is None else marks.read(text)


def _check_plain(query: Query, rendering: Rendering) -> None:
    """Raise PromptError where a model without chat template cannot render as it is asked to."""
    if rendering.continues(query):
        return
    if query.conversation[-1].role == "assistant":
        raise PromptError(
            "continue_final_message: false needs a chat template, and a candidate has none: it can "
            "only continue the assistant's last message; leave continue_final_message out",
            query.id,
            "continue_final_message",
        )
    if not rendering.add_generation_prompt:
        raise PromptError(
            "add_generation_prompt: false needs a chat template, and a candidate has none: its "
            "prompt always begins an answer; leave add_generation_prompt out",
            query.id,
            "add_generation_prompt",
        )


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, the keys of its objects included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield key
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with all its texts changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _mapped(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(part, change) for part in value]
    return value


def _before_answer(
    turns: Sequence[Mapping[str, Any]],
    render: Callable[[Sequence[Mapping[str, Any]], bool], str],
) -> str:
    """The rendered text before the answer that the last turn begins. The answer itself is appended
    unchanged, as patches are, and not rendered by the template, which may trim it."""
    try:
        begun = render(turns[:-1], True)
        if begun != render(turns[:-1], False):
            return begun
    except TemplateRefusal:
        pass  # the template refuses the conversation without its last turn
    # The template has no generation prompt, but writes text before an answer.
    text = render([*turns[:-1], {**turns[-1], "content": _SENTINEL}], False)
    before, begun_text, _ = text.rpartition(_SENTINEL)
    if not begun_text:
        raise TemplateRefusal(
            "leaves out the last message of the assistant, which is to be continued"
        )
    return before


class TaggedTrace:
    """The switcher's prompt, which is extended patch by patch.

    Its pieces (query, tags, patches, question) are tokenised separately, so a longer trace begins
    with the tokens of the shorter one: training and inference read the same ids, and an engine
    encodes only the new part. `vocabulary` is the one that the switcher shares with all candidates,
    so patches' ordinary token ids are used; if it is None, the patches' text is encoded. `numbers`
    are the switcher's numbers for the candidates, in the team's order. With `chat_template`, all of
    it is the user's turn.
    """

    def __init__(
        self,
        codec: TextCodec,
        query: Query,
        numbers: Sequence[int],
        *,
        vocabulary: SharedVocabulary | None,
        chat_template: bool = False,
    ) -> None:
        self._codec = codec
        self._numbers = tuple(numbers)
        self._vocabulary = vocabulary
        question = QUESTION.format(last=len(numbers) - 1)
        text = plain_text(query)
        if query.conversation[-1].role != "assistant":  # a begun answer is kept unchanged
            text = text.rstrip("\n")
        if chat_template:
            before, after = _around_user_turn(codec)
            if not after.startswith(" "):  # the template trims the text
                question = question.rstrip()
            self._ids = codec.encode_rendered(RenderedPrompt(before)) + codec.encode(text)
            after = after.removeprefix(" ")
            self._question = codec.encode(question) + codec.encode_rendered(RenderedPrompt(after))
        else:
            self._ids = codec.encode(text, special=True)
            self._question = codec.encode(question)
        self._patches = 0

    def prompt(self, patches: Sequence[Patch]) -> list[int]:
        """Token ids of the prompt after these patches, which must begin with those of the previous
        call."""
        for patch in patches[self._patches :]:
            self._ids += self._encode(patch)
        self._patches = len(patches)
        return self._ids + self._question

    def _encode(self, patch: Patch) -> list[int]:
        if self._vocabulary is None or not patch.token_ids:  # forced text may have none
            body = self._codec.encode(patch.text)
        else:
            body = self._vocabulary.ordinary(patch.token_ids)
        if patch.speaker is None:  # forced text has no speaker
            return body
        number = self._numbers[patch.speaker]
        begins = self._codec.encode(BEGINS.format(index=number))
        return begins + body + self._codec.encode(ENDS.format(index=number))


def digit_ids(codec: TextCodec, candidates: int) -> list[int]:
    """The token id of each candidate's number.

    Raises ConfigError if a number takes several tokens: the switcher answers with one token.
    """
    ids = [codec.single(str(index)) for index in range(candidates)]
    if None in ids:
        raise ConfigError(
            f"the switcher's tokenizer does not write {ids.index(None)} as one token, so it cannot "
            f"choose among {candidates} candidates: use another model as the switcher"
        )
    return [i for i in ids if i is not None]


def _around_user_turn(codec: TextCodec) -> tuple[str, str]:
    """The chat template's text before and after the user's text, with a space that follows it.
    Raises ConfigError."""
    if codec.tokenizer.chat_template is None:
        raise ConfigError(
            "the switcher has chat_template: true, but its tokenizer has no template: remove "
            "chat_template from the switcher"
        )
    try:
        asked = [Message("user", _SENTINEL + " ")]
        text = render_template(codec.tokenizer, template_messages(asked), begin=True)
    except TemplateRefusal as error:
        raise ConfigError(f"the switcher's chat template {error}") from error
    before, _, after = text.partition(_SENTINEL)
    return before, after
