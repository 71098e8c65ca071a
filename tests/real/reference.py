"""Taking turns written plainly with transformers alone: no cache is kept, nothing is batched, and
every patch is read from the beginning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from taketurns import Trace

TINY = 1e-3  # between two logits: rounding in float32 may swap them
CHARACTER = 3  # more tokens at most, so that a patch ends at the end of a character


@dataclass(frozen=True)
class Plain:
    """A model and its tokenizer; `prompt` is the plain prompt of one that has no chat template."""

    model: Any
    tokenizer: Any
    prompt: str | None = None

    @classmethod
    def load(cls, folder: Path, prompt: str | None = None) -> Plain:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder), prompt)

    def start(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text that an answer follows. A plain prompt is for one question."""
        if self.prompt is not None:
            [question] = messages
            return self.prompt.replace("{text}", question["content"])
        begun = messages[-1]["role"] == "assistant"
        text = self.tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=not begun,
            continue_final_message=begun,
        )
        return str(text)

    def encode(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text, add_special_tokens=self.prompt is not None)
        return [int(i) for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    @property
    def end(self) -> int:
        return int(self.model.generation_config.eos_token_id)

    @torch.no_grad()
    def greedy(self, ids: Sequence[int], tokens: int) -> list[int]:
        """Up to so many tokens, the end token among them."""
        prompt = torch.tensor([list(ids)])
        written = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=self.end,
        )
        return [int(i) for i in written[0, prompt.shape[1] :]]

    @torch.no_grad()
    def margin(self, ids: Sequence[int], token: int) -> float:
        """By how much the logit of `token` is below the greatest, after these ids."""
        logits = self.model(torch.tensor([list(ids)])).logits[0, -1]
        return float(logits.max() - logits[token])


@dataclass(frozen=True)
class Tie:
    """Where the trace has a token that is as good as the first choice but for rounding."""

    speaker: int
    place: int
    margin: float


def follow(
    trace: Trace,
    members: Sequence[Plain],
    patch_size: int,
    budget: int,
    *,
    one_tokenizer: bool,
    near: float = TINY,
) -> list[Tie]:
    """Write the answer with the speakers of a trace and assert that it is the trace's, patch for
    patch. Returns the ties, logits that are no more than `near` apart, after which the trace's own
    patch is gone on from."""
    messages = [{"role": m.role, "content": m.content} for m in trace.query.conversation]
    starts = [member.start(messages) for member in members]
    ids: list[int] = []  # of the answer, where all have one tokenizer
    text, spent, over, ties = "", 0, False, list[Tie]()
    for patch in trace.patches:
        assert not over, f"the answer is over before {patch.text!r}"
        assert patch.speaker is not None
        member, start = members[patch.speaker], starts[patch.speaker]
        before = member.encode(start) + ids if one_tokenizer else member.encode(start + text)
        new = member.greedy(before, min(patch_size, budget - spent))
        for _ in range(0 if one_tokenizer else CHARACTER):
            unfinished = member.decode([*before, *new]).endswith("\N{REPLACEMENT CHARACTER}")
            if not unfinished or spent + len(new) >= budget:
                break
            new += member.greedy([*before, *new], 1)
        written, over = (new[:-1], True) if new[-1] == member.end else (new, False)
        if tuple(written) != patch.token_ids:
            tie = _tie(member, before, new, [*patch.token_ids], patch.speaker)
            assert tie.margin < near, f"not a tie, by {tie.margin}: {patch.text!r} after {text!r}"
            ties.append(tie)
            written, over = list(patch.token_ids), patch.finish == "stop"
        shown = member.decode([*before, *written])[len(member.decode(before)) :]
        if not one_tokenizer:
            assert patch.text == shown.rstrip("\N{REPLACEMENT CHARACTER}")
        spent += len(written)
        text += patch.text
        ids += [i for i in written if i not in member.tokenizer.all_special_ids]
    assert over or spent >= budget, "the answer is not over"
    assert (trace.finish == "stop") == over
    if one_tokenizer:
        before = members[0].encode(starts[0])
        whole = members[0].decode(before + ids)[len(members[0].decode(before)) :]
        assert trace.text == whole.rstrip("\N{REPLACEMENT CHARACTER}")
    return ties


def _tie(
    member: Plain, before: Sequence[int], expected: list[int], found: list[int], speaker: int
) -> Tie:
    """Where two patches part, and how much worse the found one's token is there."""
    same = 0
    while same < min(len(expected), len(found)) and expected[same] == found[same]:
        same += 1
    token = found[same] if same < len(found) else member.end
    return Tie(speaker, same, member.margin([*before, *found[:same]], token))


def report(ties: Sequence[Tie], what: str) -> None:
    """For whoever reads the output of the tests."""
    margins = ", ".join(f"{tie.margin:.1e}" for tie in ties)
    print(f"\n{what}: {len(ties)} near-ties" + (f", margins {margins}" if ties else ""))
