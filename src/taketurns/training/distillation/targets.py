"""The speakers' distributions: for every written token, the most probable tokens in its place.

Each patch is read again by its speaker, after the speaker's own prompt and the answer so far. Of
the distribution over the next token, at the temperature of the loss, the most probable tokens are
kept, and the rest is one outcome. Rows are written in parts, so a killed run reads only the missing
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from taketurns.engines.local.loading import LoadedModel, Weights
from taketurns.engines.local.sampling import drawable
from taketurns.errors import DataError, NotANumberError
from taketurns.generation.handover import CandidateRuntime
from taketurns.training.distillation.rows import Readers, StudentRow
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.training.settings import SMALL
from taketurns.utils.files import atomic_file

PART = 256  # rows in a file
AT_ONCE = 4  # of a large model in one forward
AT_ONCE_SMALL = 32
_LEAST = -60.0  # the lowest log-probability kept: float16 can hold it


@dataclass(frozen=True, slots=True)
class Targets:
    """`ids` and `logprobs` `[learned tokens, top]` of all rows, one after the other; `starts` has
    the index of each row's first token, and last the number of all tokens."""

    ids: Tensor
    logprobs: Tensor
    starts: tuple[int, ...]

    def of(self, row: int) -> tuple[Tensor, Tensor]:
        """Token ids and natural-log probabilities `[learned tokens, top]` of a row."""
        part = slice(self.starts[row], self.starts[row + 1])
        return self.ids[part].long(), self.logprobs[part].float()


def read_targets(
    rows: Sequence[StudentRow],
    answers: Sequence[TeamAnswer],
    readers: Readers,
    vocabulary: int,
    temperature: float,
    top: int,
    folder: Path,
    on_done: Callable[[], None] = lambda: None,
) -> Targets:
    """The speakers' distributions at the learned tokens of each row; `answers` are those of the
    rows. `vocabulary` is the number of the student's logits. Raises ConfigError for candidates with
    other vocabularies than the student's, ConfigError or EngineError for one that cannot be loaded
    here, NotANumberError for NaN or infinite logits, DataError for a part of another run."""
    weights = Weights(
        {reader.candidate.name: reader.candidate.spec for reader in readers.candidates}
    )
    teacher = _Teacher(weights, readers, vocabulary, temperature, min(top, vocabulary))
    parts = []
    for part, first in enumerate(range(0, len(rows), PART)):
        part_rows = rows[first : first + PART]
        path = folder / f"targets-{part:04d}.safetensors"
        if not path.exists():
            tensors = teacher.read(part_rows, answers[first : first + PART])
            with atomic_file(path) as draft:
                save_file(tensors, draft)
        tensors = load_file(path)
        if len(tensors["ids"]) != sum(row.learned for row in part_rows):
            raise DataError(
                f"{path} belongs to another run: its number of tokens differs from this run's; "
                "remove the output and run the command again"
            )
        parts.append(tensors)
        for _ in part_rows:
            on_done()
    starts = [0]
    for row in rows:
        starts.append(starts[-1] + row.learned)
    return Targets(
        torch.cat([tensors["ids"] for tensors in parts]),
        torch.cat([tensors["logprobs"] for tensors in parts]),
        tuple(starts),
    )


class _Teacher:
    """Reads answers with every candidate; a candidate is loaded when it is first needed."""

    def __init__(
        self, weights: Weights, readers: Readers, vocabulary: int, temperature: float, top: int
    ) -> None:
        self._weights = weights
        self._readers = readers
        self._end = int(readers.student.info.codec.tokenizer.eos_token_id)
        self._vocabulary = vocabulary
        self._ordinary = torch.tensor(sorted(readers.one_vocabulary().ordinary_ids))
        self._temperature = temperature
        self._top = top
        self._loaded: dict[str, LoadedModel] = {}

    def read(self, rows: Sequence[StudentRow], answers: Sequence[TeamAnswer]) -> dict[str, Tensor]:
        """The tensors of a part."""
        ids = [torch.zeros(row.learned, self._top, dtype=torch.int32) for row in rows]
        logprobs = [torch.zeros(row.learned, self._top, dtype=torch.float16) for row in rows]
        for speaker, reader in enumerate(self._readers.candidates):
            own_rows = [i for i, row in enumerate(rows) if speaker in row.speakers]
            for batch in self._batches(reader, own_rows, rows):
                logits = self._logits(reader, [rows[i] for i in batch], [answers[i] for i in batch])
                for i, row_logits in zip(batch, logits, strict=True):
                    writers = [who for who in rows[i].speakers if who is not None]
                    spoken = torch.tensor([who == speaker for who in writers])
                    learned = torch.tensor([who is not None for who in rows[i].speakers])
                    most = self._distribution(row_logits[learned][spoken], reader).topk(self._top)
                    ids[i][spoken] = most.indices.to(torch.int32)
                    logprobs[i][spoken] = most.values.clamp(min=_LEAST).to(torch.float16)
        return {"ids": torch.cat(ids), "logprobs": torch.cat(logprobs)}

    def _batches(
        self, reader: CandidateRuntime, own_rows: list[int], rows: Sequence[StudentRow]
    ) -> Iterator[list[int]]:
        if not own_rows:
            return
        model = self._model(reader)
        size = AT_ONCE_SMALL if model.num_parameters() < SMALL else AT_ONCE
        own_rows.sort(key=lambda i: len(rows[i].answer))
        for first in range(0, len(own_rows), size):
            yield own_rows[first : first + size]

    def _logits(
        self, reader: CandidateRuntime, rows: Sequence[StudentRow], answers: Sequence[TeamAnswer]
    ) -> Iterator[Tensor]:
        """Per row the speaker's float32 logits for each answer token, `[answer tokens,
        vocabulary]`."""
        model = self._model(reader)
        prompts = [list(reader.prompt(answer.trace.query).ids) for answer in answers]
        # The last token is only predicted, not read.
        read = [[*p, *row.answer[:-1]] for p, row in zip(prompts, rows, strict=True)]
        width = max(map(len, read))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in read])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in read])
        with torch.inference_mode():
            logits = model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                use_cache=False,
            ).logits
        for row, prompt, row_logits in zip(rows, prompts, logits, strict=True):
            if not drawable(row_logits[: len(prompt) + len(row.answer) - 1]).all():
                raise NotANumberError(
                    f"{reader.candidate.name} computed NaN or infinity for a token of the answer "
                    f"{row.id!r}: give it another dtype, or check its weights with taketurns check "
                    "--weights"
                )
            yield row_logits[len(prompt) - 1 : len(prompt) - 1 + len(row.answer)].float().cpu()

    def _distribution(self, logits: Tensor, reader: CandidateRuntime) -> Tensor:
        """Log-probabilities `[tokens, vocabulary]` over the student's tokens: the shared ordinary
        tokens, and the student's end token, which gets the probability of all end tokens of the
        speaker."""
        logits = logits / self._temperature
        ends = sorted(i for i in reader.info.end_token_ids if i < logits.shape[-1])
        end = logits[:, ends].logsumexp(-1) if ends else torch.full(logits.shape[:1], -torch.inf)
        shared = logits.new_full((len(logits), self._vocabulary), -torch.inf)
        known = self._ordinary[self._ordinary < min(self._vocabulary, logits.shape[-1])]
        shared[:, known] = logits[:, known]
        silent = reader.info.suppressed_token_ids.union(ends)
        shared[:, [i for i in silent if i < self._vocabulary]] = -torch.inf
        shared[:, self._end] = end
        return shared.log_softmax(-1)

    def _model(self, reader: CandidateRuntime) -> Any:
        name = reader.candidate.name
        if name not in self._loaded:
            self._loaded[name] = self._weights.load(name)
        loaded = self._loaded[name]
        if loaded.activate is not None:
            loaded.activate()
        return loaded.model
