"""Models of one shape take turns on a batch of texts and share the keys and values of some layers.

What the engine would do is written out with the layers of `transformers` alone. A token belongs to
the model that encodes it first: the prompt to the first speaker, the last token of a patch to the
next one, since a model samples it without reading it. In a shared layer there are the owner's keys
and values alone, stored once for all models. A model whose turn comes reads what the others wrote:
in a shared layer nothing of it is computed, and a recomputed layer after a shared one begins from
the owner's hidden states, which were stored when it wrote (`HANDED_OVER`). `RECOMPUTED` computes
these hidden states with the reader's own layers instead, on the owner's keys and values; that needs
as little memory and saves no time.

All texts of a batch have the same order of speakers, so a column has one owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Cache

from benchmarks.shared_cache.layers import NONE, SharedLayers

HiddenStates = Literal["handed over", "recomputed"]
HANDED_OVER: HiddenStates = "handed over"
RECOMPUTED: HiddenStates = "recomputed"


class Cells:
    """A tensor that grows along its dimension `-2`, in memory for `room` cells."""

    def __init__(self, room: int) -> None:
        self.length = 0
        self._room = room
        self._all: Tensor | None = None

    def extend(self, new: Tensor, stop: int) -> Tensor:
        """All cells before `stop`, of which `new` has the last ones. Those that are here already
        stay as they are."""
        if self._all is None:
            *batch, _, width = new.shape
            self._all = new.new_zeros((*batch, self._room, width))
        if (more := stop - self.length) > 0:
            self._all[..., self.length : stop, :] = new[..., new.shape[-2] - more :, :]
            self.length = stop
        return self._all[..., :stop, :]

    def between(self, start: int, stop: int) -> Tensor:
        """The cells from `start` to before `stop`."""
        assert self._all is not None, "something was written"
        return self._all[..., start:stop, :]

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch."""
        if self._all is not None:
            self._all = self._all[rows]

    def copy(self) -> Cells:
        """The same cells, to go on with apart."""
        copy = Cells(self._room)
        copy.length = self.length
        copy._all = None if self._all is None else self._all.clone()
        return copy

    @property
    def nbytes(self) -> int:
        """The bytes of what was written."""
        return 0 if self._all is None else self.between(0, self.length).nbytes


@dataclass(frozen=True, slots=True)
class LayerCells:
    """The keys and values of a layer, `[batch, heads, cells, width]` each."""

    keys: Cells
    values: Cells

    @property
    def both(self) -> tuple[Cells, Cells]:
        return self.keys, self.values

    def copy(self) -> LayerCells:
        """The same cells, to go on with apart."""
        return LayerCells(self.keys.copy(), self.values.copy())


class ReaderCache(Cache):  # type: ignore[misc]  # transformers has no types
    """What one model reads and writes, up to the column `stop`."""

    def __init__(self, cells: Sequence[LayerCells]) -> None:
        super().__init__(layers=[])
        self.cells = cells
        self.stop = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """The keys and values of a layer, with new ones."""
        layer = self.cells[layer_idx]
        return (
            layer.keys.extend(key_states, self.stop),
            layer.values.extend(value_states, self.stop),
        )


class Turns:
    """A batch of texts that `models`, decoders of one shape such as Llama, write in turns.

    Prompts `[rows][tokens]` are padded on the left. `room` is the most columns that the batch may
    come to, prompt included. With `remember` the hidden states before every layer are stored, so
    that what one model wrote can be `shared_by` any choice of layers.
    """

    def __init__(
        self,
        models: Sequence[Any],
        prompts: Sequence[Sequence[int]],
        room: int,
        layers: SharedLayers = NONE,
        hidden_states: HiddenStates = HANDED_OVER,
        remember: bool = False,
    ) -> None:
        longest = max(map(len, prompts))
        self.models = models
        self.layers = layers
        self.tokens = torch.tensor([[0] * (longest - len(row)) + list(row) for row in prompts])
        self._pads = torch.tensor([longest - len(row) for row in prompts])
        self._recomputes = hidden_states == RECOMPUTED
        self._room = room
        count = models[0].config.num_hidden_layers
        self.common = {layer: self._new() for layer in sorted(layers.shared)}
        self.own = [
            {layer: self._new() for layer in range(count) if layer not in layers.shared}
            for _ in models
        ]
        entries = frozenset() if self._recomputes else layers.stored(count)
        self.handed = {layer: Cells(room) for layer in (range(count) if remember else entries)}
        self._caches = self._read_by_each()
        self._read = [0] * len(models)

    def _read_by_each(self) -> list[ReaderCache]:
        count = self.models[0].config.num_hidden_layers
        return [
            ReaderCache([self.common.get(layer) or own[layer] for layer in range(count)])
            for own in self.own
        ]

    def _new(self) -> LayerCells:
        return LayerCells(Cells(self._room), Cells(self._room))

    @property
    def columns(self) -> int:
        """Columns so far, padding included."""
        return self.tokens.shape[1]

    @torch.inference_mode()
    def write(self, speaker: int, tokens: int, end: int, ended: Tensor) -> Tensor:
        """The speaker writes up to `tokens` columns greedily, fewer if all rows end. Rows that have
        `ended` are padded with `end`. Returns which rows have ended, `[rows]`."""
        for _ in range(tokens):
            chosen = torch.where(ended, end, self.catch_up(speaker).argmax(-1))
            self.tokens = torch.cat((self.tokens, chosen[:, None]), 1)
            ended = ended | (chosen == end)
            if ended.all():
                break
        return ended

    @torch.inference_mode()
    def follow(self, speaker: int, tokens: Tensor) -> Tensor:
        """The speaker writes the given tokens `[rows, tokens]`. Returns the logits
        `[rows, tokens, vocabulary]` from which it would have drawn each of them."""
        self.tokens = torch.cat((self.tokens, tokens[:, :-1]), 1)
        logits = self._forward(speaker, tokens.shape[1])
        self.tokens = torch.cat((self.tokens, tokens[:, -1:]), 1)
        return logits

    @torch.inference_mode()
    def catch_up(self, speaker: int) -> Tensor:
        """The speaker reads all that it has not read. Returns its logits for the next token,
        `[rows, vocabulary]`."""
        return self._forward(speaker, 1)[:, 0]

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, given by their numbers."""
        self.tokens, self._pads = self.tokens[rows], self._pads[rows]
        for cells in self._all_cells():
            cells.keep(rows)

    def copy(self) -> Turns:
        """The same texts and caches, to go on with apart."""
        copy = Turns(self.models, [[0]], self._room, self.layers)
        copy.tokens, copy._pads, copy._read = self.tokens, self._pads, list(self._read)
        copy._recomputes = self._recomputes
        copy.common = {number: layer.copy() for number, layer in self.common.items()}
        copy.own = [{number: cells.copy() for number, cells in own.items()} for own in self.own]
        copy.handed = {number: cells.copy() for number, cells in self.handed.items()}
        copy._caches = copy._read_by_each()
        return copy

    def shared_by(self, layers: SharedLayers) -> Turns:
        """A copy that goes on with other shared layers. This one must `remember`, share nothing,
        and have been read by one model only."""
        [writer] = [speaker for speaker, read in enumerate(self._read) if read]
        assert not self.layers.shared, "all layers are the writer's own"
        assert 0 in self.handed, "hidden states were remembered"
        copy = Turns(self.models, [[0]], self._room, layers)
        copy.tokens, copy._pads, copy._read = self.tokens, self._pads, list(self._read)
        for number, cells in self.own[writer].items():
            shared = number in layers.shared
            (copy.common if shared else copy.own[writer])[number] = cells.copy()
        copy.handed = {number: self.handed[number].copy() for number in copy.handed}
        copy._caches = copy._read_by_each()
        return copy

    def _all_cells(self) -> list[Cells]:
        layers = [*self.common.values(), *(layer for own in self.own for layer in own.values())]
        return [*(cells for layer in layers for cells in layer.both), *self.handed.values()]

    @property
    def nbytes(self) -> int:
        """The memory of all keys, values and stored hidden states, in bytes."""
        return sum(cells.nbytes for cells in self._all_cells())

    def _forward(self, speaker: int, last: int) -> Tensor:
        """Run the speaker over all that it has not read. Returns the logits of the `last` columns,
        `[rows, last, vocabulary]`."""
        model, cache = self.models[speaker], self._caches[speaker]
        start, stop = self._read[speaker], self.columns
        # No model has read the columns from here on, but for a last one, whose logits are wanted.
        owned = min(max(self._read), stop - 1)
        cache.stop = stop
        hidden, begin = model.model.embed_tokens(self.tokens[:, start:stop]), start
        at = self._place(model, hidden, begin, stop)
        for number, layer in enumerate(model.model.layers):
            if number in self.layers.shared and not self._recomputes and begin < owned:
                hidden, begin = hidden[:, owned - begin :], owned
                at = self._place(model, hidden, begin, stop)
            elif number in self.handed and begin > start:
                others = self.handed[number].between(start, owned)
                hidden, begin = torch.cat((others, hidden), 1), start
                at = self._place(model, hidden, begin, stop)
            if number in self.handed:
                self.handed[number].extend(hidden, stop)
            hidden = layer(hidden, past_key_values=cache, **at)
        self._read[speaker] = stop
        logits: Tensor = model.lm_head(model.model.norm(hidden[:, -last:]))
        return logits

    def _place(self, model: Any, hidden: Tensor, begin: int, stop: int) -> dict[str, Any]:
        """What a layer must know of the columns `begin` to `stop`: positions and mask."""
        columns, keys = torch.arange(begin, stop), torch.arange(stop)
        positions = (columns - self._pads[:, None]).clamp(min=0)
        seen = (keys <= columns[:, None]) & (keys >= self._pads[:, None, None])
        # A column of padding looks at itself, so that its softmax is a number.
        seen = seen | (keys == columns[:, None])
        return {
            "attention_mask": seen[:, None],
            "position_ids": positions,
            "position_embeddings": model.model.rotary_emb(hidden, position_ids=positions),
        }
