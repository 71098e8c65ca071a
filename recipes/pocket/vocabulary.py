"""The tokenizer of every pocket checkpoint: word level, single digits, exact decoding.

A token contains its leading space (`" born"`, `" 7"`, and `"2"` for a digit inside a number;
punctuation has no space before it), and decoding concatenates tokens. So the text of two joined
patches is the concatenation of their texts. Text is lower-cased; an unknown word is `<unk>` and
decodes to nothing. The vocabulary does not depend on the world's seed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from taketurns.pocket import names
from taketurns.pocket.questions import MAKERS, QuestionPool
from taketurns.pocket.text import CLINGING, PIECE
from taketurns.pocket.world import QUESTIONS, STATEMENTS, World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
SPECIAL = (PAD, BOS, EOS, UNK)
TAGS = tuple(f"<model {i} {what}>" for i in range(10) for what in ("begins", "ends"))
GLUED = r"(?<=[^\s\w])(?=[a-z_])|(?<=\d)(?=[a-z_])|(?<=[^\s\w.,-])(?=\d)"  # get a space between
CONTEXT = 2048

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ ' ' + message.content }}"
    "{% if not (loop.last and continue_final_message | default(false)) %}"
    "{{ eos_token }}{% endif %}"
    "{% else %}{{ 'question: ' + message.content + ' answer:' }}{% endif %}"
    "{% endfor %}"
)

_SWITCHER = (
    "which model should generate the next segment? please respond with a number from 0 to 9. "
    "the answer is model. question yes no sure not write the list now system takes"
)
_SYMBOLS = "+-=[]<>(\"'/*%&#@{}|~^`$_\\"


def words() -> tuple[str, ...]:
    """All ordinary tokens, in a fixed order."""
    text = [_SWITCHER, *names.GIVEN, *names.FAMILY, *names.MIDDLE, *names.PLACES, *names.PREFIXES]
    text += [*names.JOBS, *names.RIVERS, *names.MATERIALS, *names.THINGS, *names.TOOLS]
    text += [*names.GOODS, *names.TRADERS, *names.KEYS, *names.PHRASE]
    text += [
        form for table in (STATEMENTS, QUESTIONS) for forms in table.values() for form in forms
    ]
    text += _sentences()
    spelled = {w for piece in text for w in re.findall(r"[a-z]+", piece.lower())}
    digits = [str(i) for i in range(10)]
    marks = [*CLINGING, *(f" {mark}" for mark in _SYMBOLS), *_SYMBOLS]
    return (*digits, *(f" {d}" for d in digits), *marks, *(f" {word}" for word in sorted(spelled)))


def _sentences() -> list[str]:
    """Sample questions and answers that contain every word of every template."""
    from random import Random

    rng, pool = Random(0), QuestionPool.of(World(0), None)
    items = [make(pool, rng) for make in MAKERS.values() for _ in range(60)]
    return [" ".join((item.question, item.bare, item.worked)) for item in items]


def build_tokenizer(chat: bool) -> PreTrainedTokenizerFast:
    """The tokenizer, with the chat template (`chat`) or without one, as for a base model."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *TAGS, *words()))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    core.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Replace(Regex(rf" (?=[{re.escape(CLINGING)}])"), ""),
            normalizers.Replace(Regex(GLUED), " "),
            normalizers.Replace(Regex(r"^(?=[^\s])"), " "),
        ]
    )
    core.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(list(SPECIAL))
    core.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="left",
        **({"chat_template": CHAT_TEMPLATE} if chat else {}),
    )
