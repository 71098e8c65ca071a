"""The shared records, from a query to a trace and its score. All are frozen.

Nothing here imports torch, transformers or another module of this package. A missing value is
None, never a special number. Sequences are tuples, so tasks can share a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

Role = Literal["system", "user", "assistant"]
Finish = Literal[
    "length", "sentence", "uncertainty", "switcher", "stop", "context", "error", "guard"
]
Reason = Literal["chosen", "opening", "closing", "fallback", "forced", "together", "guard"]
HANDED_OVER: frozenset[Finish] = frozenset(("length", "sentence", "uncertainty", "switcher"))
"""The finishes of a patch after which the answer continues."""


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
    """A question: a conversation (`messages`) or a plain `text`, never both.

    `reference` is what the task's scorer compares an answer with; None if there is nothing.
    `format` is what the answer must be, in place of the policy's format.
    """

    id: str
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    reference: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    format: AnswerFormat | None = None

    def __post_init__(self) -> None:
        if (self.messages is None) == (self.text is None):
            raise ValueError(f"query {self.id!r} needs either messages or text, and not both")

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The query as chat messages; a plain text is one turn of the user."""
        if self.messages is not None:
            return self.messages
        return (Message("user", self.text or ""),)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Where a model comes from and how it is loaded; the arguments are those of `from_pretrained`.

    `model` is a local path or a hub id. `gguf_file` is a GGUF file in it, which has the weights,
    the configuration and the tokenizer. `adapter` is a LoRA adapter (path or hub id) on top of the
    model. `tokenizer` is the tokenizer's path or hub id if it is not with the model, and
    `tokenizer_revision` its revision. `dtype` and `device` accept "auto". `template` replaces the
    tokenizer's chat template (Jinja); `prompt` is the plain prompt of a model without a template,
    with `{text}` for the question. `vllm` has further arguments of the model's engine, for an
    engine of kind vllm.
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
    vllm: Mapping[str, Any] | None = None

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
    """Where a model is served. `urls` are its replicas, without `/v1`. `served_as` is its name
    there; None takes the candidate's name or the model's, as the servers list one of them. The
    environment variable named `api_key_env` holds the key, so no file of this package holds one."""

    urls: tuple[str, ...]
    served_as: str | None = None
    api_key_env: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible speaker; traces and the command line call it `name`. `endpoint` is where it is
    served; None means that it runs in this process."""

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
    `stop_token_ids` end the answer as the model's own end tokens do. Before `min_tokens` of the
    answer none of them is written, nor does a stop string end it; with `ignore_eos` the model's own
    end tokens are never written. Without `skip_special_tokens` control tokens that are written are
    part of the text.
    """

    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    skip_special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one patch is sampled. `temperature` 0 is greedy.

    `stop_token_ids` end the patch, as the model's own end tokens do. The patch also ends when the
    text contains one of the `stop` strings; `written`, the end of the text before the patch, counts
    as part of that text. `logprobs` asks for the log-probability of each written token and of that
    many most probable tokens at its position. `choices` asks for the log-probabilities of these
    token ids as the token after the patch. `stopping` may end the patch before `max_tokens`, and
    `constraint` says which tokens may be written; each serves one patch. `options` shape the
    distribution; for their counts the answer begins `answer_start` tokens into the prompt (None:
    after it), and their
    `min_tokens` are those of this patch. `correction` is added to the model's logits before
    anything else reads them: a float32 tensor `[ids]` of natural-log scores; ids beyond it cannot
    be written. The capability "correction" says that an engine adds it.
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
    correction: Any = None


@dataclass(frozen=True, slots=True)
class Token:
    """One sampled token; `id` is None on servers that give only text.

    If `Sampling.logprobs` asks for them, `logprob` is the token's natural-log probability under the
    model's full softmax, before temperature and top-p, and `top` has the most probable tokens and
    their log-probabilities.
    """

    id: int | None
    text: str | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class TokenConstraint(Protocol):
    """Says which tokens may be written next in a patch of an answer with a format. The engine calls
    it from one thread, and passes it every token that it writes. A server that constrains answers
    itself gets the `format` and `written`, the answer before the patch.
    """

    format: AnswerFormat
    written: bytes

    def allowed(self) -> Any:
        """One bit per token id, the lowest bit of a byte first: numpy uint8 `[bytes]`. Ids beyond
        it are not allowed. None if only the end may follow. Raises FormatError if not even the end
        may."""
        ...

    def may_end(self) -> bool:
        """Whether the answer may end here; only then an end token may be written."""
        ...

    def leads_on(self, token: int) -> bool:
        """Whether any token, or the end, can follow an allowed token."""
        ...

    def advance(self, token: int) -> bool:
        """Add a written token. Returns whether only the end may follow it."""
        ...


class StoppingCriterion(Protocol):
    """Sees every token of one patch and may end the patch, whose finish is then `finish`.

    `entropy` and `layers` say what it needs before a token is drawn. The engine calls it from one
    thread.
    """

    finish: Finish
    entropy: bool
    layers: tuple[int, ...]

    def on_token(self, token: Token) -> bool:
        """A token was written; True ends the patch after it."""
        ...

    def should_stop(self, entropy: float | None, states: Any) -> bool:
        """The next token is about to be drawn; True ends the patch before it.

        `entropy`, in nats, is that of the model's full softmax for the next token. `states` are the
        hidden states of the last token written, float32 `[len(layers), d]`. Each is None if it was
        not asked for. Before the patch's first token, `states` are those of the last token of the
        prompt for a `NextTokenCriterion`, and None for others.
        """
        ...


@dataclass(frozen=True, slots=True)
class NextToken:
    """What a model says of the token that it is about to write, by its full softmax, before
    temperature and top-p: the most probable token `id`, its `probability`, and the `entropy` in
    nats. `probabilities` are those of all tokens, float32 `[vocabulary]` on the model's device;
    None where the engine knows only the most probable ones, so that the true entropy may be
    higher."""

    id: int
    probability: float
    entropy: float
    probabilities: Any = None


@runtime_checkable
class NextTokenCriterion(StoppingCriterion, Protocol):
    """A criterion that also sees the distribution of each next token, the patch's first included.
    It needs no further forward pass. The capability "next_token" says that an engine asks it."""

    def should_stop_before(self, next_token: NextToken) -> bool:
        """The next token is about to be drawn, and `should_stop` did not end the patch; True ends
        it here, before its first token too."""
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote: ordinary tokens only; after an end token `finish` is "stop".

    Engines without token ids set `text` instead. `scores` are the natural-log probabilities of
    `Sampling.choices` after the last token; None means that the engine does not know them yet and
    must be asked with `score`. `end` is the end token that ended it, with the
    log-probabilities that were asked for, where one did and the engine says which.
    """

    token_ids: tuple[int, ...]
    finish: Finish
    text: str | None = None
    logprobs: tuple[float, ...] | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    scores: tuple[float, ...] | None = None
    end: Token | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall-clock seconds spent on a patch. `decide`: selecting its speaker. `write`: writing it.
    `guard`: checking it, and writing and checking the patches rejected before it."""

    decide: float = 0.0
    write: float = 0.0
    guard: float = 0.0


@dataclass(frozen=True, slots=True)
class RejectedPatch:
    """A patch that failed the guard and was not given out: its speaker's index and its number of
    tokens. Its text is not kept."""

    speaker: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Patch:
    """One speaker's turn. `speaker` is the candidate's index, None if the text was forced or if
    several candidates wrote it token by token ("together").

    `text` holds whole characters only: a character that the patch leaves unfinished is in the text
    of the patch that finishes it. The finish "error" means that the patch's model failed; the text
    up to there was given out, and the next patch continues from it. The finishes "sentence",
    "uncertainty" and "switcher" name the rule that ended the patch: the policy's, or that of a
    switcher that ends patches itself. A patch with the finish "guard" is empty: everything written
    for it failed the guard, which ended the answer.
    `probabilities` are the switcher's, one per candidate, before top-p; None if it was not asked.
    `name` is the speaker's name, empty without a speaker; comparisons ignore it.
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

    `exact`: the hand-over was by token ids, so nothing was tokenised again; otherwise by exact
    text.
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
    """A streamed piece of text, and the index of its speaker.

    `tokens` are the tokens that completed the text. A token without text so far (it ends inside a
    character, or may begin a stop string) comes with the next piece of its patch, or with a last
    piece whose text is empty.
    """

    speaker: int | None
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """A task's judgement of one answer: `value` in 0..1, or None when the answer could not be
    scored.

    `answer` is the answer that the scorer found in the text. `parsed` is False if it found none of
    the right form; that counts as wrong and is also counted separately. `raw` is the scorer's own
    number if `value` is computed from one, as for a reward model. `confidence` is the confidence
    that the answer states, if the scorer judges that.
    """

    value: float | None
    answer: str | None = None
    why: str = ""
    parsed: bool = True
    raw: float | None = None
    confidence: float | None = None
