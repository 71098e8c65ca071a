"""The shared nouns: frozen records that flow from a query to a trace, a score and beyond.

Nothing here imports torch, transformers or another module of this package. A missing value is
None, never a sentinel number; a sequence is a tuple, so a record can be shared between tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant"]
Finish = Literal[
    "length", "sentence", "uncertainty", "switcher", "stop", "context", "error", "guard"
]
Reason = Literal["chosen", "opening", "closing", "fallback", "forced", "together", "guard"]
HANDED_OVER: frozenset[Finish] = frozenset(("length", "sentence", "uncertainty", "switcher"))
"""After a patch that ends so, the answer goes on."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """What the whole text of an answer must be.

    `kind` "json": JSON that is valid by the schema `value`, itself JSON; "regex": a match of the
    regular expression `value`; "choice": one of the texts in `value`, a JSON list; "grammar": a
    text of the grammar `value`, in the notation of Lark or GBNF.
    """

    kind: Literal["json", "regex", "choice", "grammar"]
    value: str


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: a conversation (`messages`) or a plain `text`, never both.

    `reference` is whatever the task's scorer compares with (None where there is none). `format` is
    what the answer must be, in place of the policy's.
    """

    id: str
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    reference: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    format: AnswerFormat | None = None

    def __post_init__(self) -> None:
        if (self.messages is None) == (self.text is None):
            raise ValueError(f"query {self.id!r} needs either messages or text")

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The query as chat messages; a plain text is one user's turn."""
        if self.messages is not None:
            return self.messages
        return (Message("user", self.text or ""),)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Where a model comes from and how it is loaded; the arguments are those of `from_pretrained`.

    `model` is a local path or a hub id, `gguf_file` the file in it that has the weights and all
    else, where they are in GGUF; `adapter` is a LoRA adapter (path or hub id) put on top of it.
    `tokenizer` is where the tokenizer is if not with the model, at a revision of its own.
    `dtype` and `device` accept "auto". `template` overrides the tokenizer's chat template (Jinja);
    `prompt` gives a model without any template its plain prompt, with `{text}` for the question.
    """

    model: str
    revision: str | None = None
    adapter: str | None = None
    tokenizer: str | None = None
    tokenizer_revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    device_map: Any = None
    quantization_config: Mapping[str, Any] | None = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    template: str | None = None
    prompt: str | None = None
    gguf_file: str | None = None

    @property
    def tokenizer_source(self) -> tuple[str, str | None]:
        """Where the tokenizer is, and at which revision."""
        if self.tokenizer is None or self.tokenizer == self.model:
            return self.model, self.tokenizer_revision or self.revision
        return self.tokenizer, self.tokenizer_revision

    def with_model(self, model: str) -> ModelSpec:
        """The same settings for another checkpoint, which has its own tokenizer."""
        return replace(
            self,
            model=model,
            revision=None,
            tokenizer=None,
            tokenizer_revision=None,
            gguf_file=None,
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is served. `urls` are its replicas, without the `/v1`; `served_as` is its name
    there (None: whichever of the candidate's and the model's the servers list); the environment
    variable `api_key_env` holds the key, so that no key is ever in a file of ours."""

    urls: tuple[str, ...]
    served_as: str | None = None
    api_key_env: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that may speak, known by `name` in traces and on the command line. `endpoint`
    says where it is served, None that it runs in this process."""

    name: str
    spec: ModelSpec
    endpoint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """What else shapes the distribution that a token is drawn from, by the names and with the
    meaning of vLLM's sampling parameters; each default changes nothing.

    `top_k` (0: all) and `min_p` leave the less probable tokens out. The penalties lower what was
    written before: `presence_penalty` and `frequency_penalty` in the answer, `repetition_penalty`
    in prompt and answer. `logit_bias` has pairs of a token and what is added to its logit.
    Before `min_tokens` of the answer, and with `ignore_eos` at all, no end token is written.
    """

    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one patch is sampled. `temperature` 0 is greedy.

    `stop_token_ids` end the patch beside the model's own end tokens; `stop` strings end it when
    the written text (`written`, the tail of what stands before the patch, included) contains one.
    `logprobs` asks for each token's log-probability and those of so many of the most probable
    tokens beside it, `choices` for those of given tokens as the one that would follow the patch.
    `stopping` may end the patch before `max_tokens`; it is made for one patch. `constraint`, made
    for one patch too, says which tokens may be written. `options` shape the distribution; for
    their counts the answer begins `answer_start` tokens into the prompt (None: after it).
    """

    max_tokens: int
    temperature: float = 0.7
    top_p: float = 0.9
    stop: tuple[str, ...] = ()
    written: str = ""
    stop_token_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    choices: tuple[int, ...] = ()
    stopping: StoppingCriterion | None = None
    constraint: TokenConstraint | None = None
    options: SamplingOptions = SamplingOptions()
    answer_start: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """One sampled token as it is written; `id` is None on servers that only give text.

    Where they were asked for, `logprob` is its natural-log probability under the model's full
    softmax, before temperature and top-p, and `top` the most probable tokens with theirs.
    """

    id: int | None
    text: str | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class TokenConstraint(Protocol):
    """Says which tokens may be written next, as a patch of an answer with a format is written. The
    engine calls it from one thread, and shows it every token that it writes. A server that keeps
    to formats by itself is told the `format` and what is `written` of the answer before the patch.
    """

    format: AnswerFormat
    written: bytes

    def allowed(self) -> Any:
        """One bit a token id, the lowest of a byte first: numpy uint8 `[bytes]`. Ids beyond it are
        not allowed. None is where only the end may follow. Raises FormatError where not even
        that may."""
        ...

    def may_end(self) -> bool:
        """May the answer end here? Only then may an end token be written."""
        ...

    def leads_on(self, token: int) -> bool:
        """Can an allowed token be followed by any other, or by the end?"""
        ...

    def advance(self, token: int) -> bool:
        """Take a token that was written; True where nothing but the end may follow it."""
        ...


class StoppingCriterion(Protocol):
    """Looks on while one patch is written, and may end it, which is then its `finish`.

    `entropy` and `layers` say what it wants to see before a token is drawn. The engine calls
    it from one thread.
    """

    finish: Finish
    entropy: bool
    layers: tuple[int, ...]

    def on_token(self, token: Token) -> bool:
        """A token was written; True ends the patch after it."""
        ...

    def should_stop(self, entropy: float | None, states: Any) -> bool:
        """The next token is about to be drawn; True ends the patch before it.

        `entropy` is that of the model's full softmax for it, in nats, and `states` are the hidden
        states of the last token written, float32 `[len(layers), d]`; each is None where it was not
        asked for, and states are before the patch's first token.
        """
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote: ordinary tokens only; an end token shows as `finish == "stop"`.

    `text` is set by engines that have no token ids to give. `scores` are the natural-log
    probabilities of `Sampling.choices` after the last token, where the engine knows them by then;
    None means that they must be asked for.
    """

    token_ids: tuple[int, ...]
    finish: Finish
    text: str | None = None
    logprobs: tuple[float, ...] | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    scores: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall-clock seconds spent on a patch: choosing its speaker, writing it, and what a guard took
    beside: checking it, and writing and checking what was withheld before it."""

    decide: float = 0.0
    write: float = 0.0
    guard: float = 0.0


@dataclass(frozen=True, slots=True)
class RejectedPatch:
    """A patch that failed the guard and was not given out: who wrote it and how many tokens it
    had. What it said is not kept."""

    speaker: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Patch:
    """One speaker's turn. `speaker` is the candidate's index, None when the text was forced or when
    several wrote it token by token ("together").

    `text` holds whole characters only: the bytes of a character that the patch leaves unfinished
    show in the patch that finishes it. A patch with the finish "error" was broken off by a failure
    of its model; what it holds was given out, and the next patch goes on from there. Those with the
    finish "sentence", "uncertainty" or "switcher" were ended by that rule of the policy. One with
    the finish "guard" is empty: all that was written for it failed the guard, which ended the
    answer.
    `probabilities` are the switcher's, one a candidate, before top-p; None where it was not asked.
    `name` is the speaker's; empty where there is none, and not compared.
    """

    speaker: int | None
    token_ids: tuple[int, ...]
    text: str
    finish: Finish
    reason: Reason
    probabilities: tuple[float, ...] | None = None
    timing: Timing = Timing()
    withheld: tuple[RejectedPatch, ...] = ()
    name: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Trace:
    """An answer and who wrote each part of it.

    `exact` says that tokens were handed from speaker to speaker as ids, so nothing was
    re-tokenised; otherwise the exact text was handed over.
    """

    query: Query
    patches: tuple[Patch, ...]
    seed: int
    exact: bool = True
    error: str | None = None

    @property
    def text(self) -> str:
        return "".join(patch.text for patch in self.patches)

    @property
    def tokens(self) -> int:
        return sum(len(patch.token_ids) for patch in self.patches)

    @property
    def finish(self) -> Finish | None:
        """Why the answer ended: "stop", "length" (the budget), "context", "guard" or "error"; None
        if nothing was written."""
        if not self.patches:
            return None
        finish = self.patches[-1].finish
        return "length" if finish in HANDED_OVER else finish


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text on its way to the reader, and who is writing it.

    `tokens` are those that made it appear. A token that shows no text yet (it ends inside a
    character, or may begin a stop string) comes with the text that follows it in its patch, or with
    a last piece of the patch whose text is empty.
    """

    speaker: int | None
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """A task's judgement of one answer: `value` in 0..1, or None when the answer could not be
    scored.

    `answer` is what the scorer took for the answer. `parsed` is False where it found nothing of the
    right kind in the text: a failure of form, which counts as wrong and is counted apart. `raw` is
    the scorer's own number where the value is made from another, as a reward model's is;
    `confidence` how sure the answer is, where that is what is judged.
    """

    value: float | None
    answer: str | None = None
    why: str = ""
    parsed: bool = True
    raw: float | None = None
    confidence: float | None = None
