"""Repeated forward passes that compute again only the tokens and the blocks that may have changed."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

from roselora.models.activation_hooks import hooked, replaced_forward
from roselora.models.architecture import block_names
from roselora.models.inference import known_arguments
from roselora.models.padding import padded_inputs, positions
from roselora.models.shared_prefix import SharedPrefix, all_is_seen, inputs_behind, past_of, shared_prefixes

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""How far, in norm, hidden states may be off before a model counts as one that cannot skip, if nothing is rounded."""


@dataclass(frozen=True)
class SplitRow:
    """A text in two parts.

    Attributes:
        prefix: tokens that run once.
        suffix: tokens that run in every pass, at least one.
    """

    prefix: list[int]
    suffix: list[int]


class PrefixCache:
    """Padded rows, of which only the columns from ``start`` on run again, and only in the blocks from ``block`` on.

    A first pass keeps the keys and values of the columns before ``start`` in the blocks that run again, and what enters
    ``block`` at the other columns. Nothing below ``block`` may change as long as the cache is used, and nothing above
    may change the outputs at the tokens before ``start``.

    Args:
        model: a causal model; no dropout may act in it during the first pass.
        inputs: ``input_ids`` and ``attention_mask``, (n, length), padded on any side.
        block: the index of the lowest block that runs again.
        start: the first column that runs again.
        batch_size: rows of the first pass that run together, without the padding that they do not need; by default all.
        prefixes: what several rows begin with, in columns of its own, which the first pass reads once; with them, all
            rows run together.

    Attributes:
        states: (n, length - start, width), the output of the model's body in the first pass; empty if all blocks run.
        entering: (n, length - start, width), what enters the block in the first pass; empty if all blocks run.
        mask: (n, length), bool, where there are tokens.
        skips: whether passes skip anything. Models whose blocks pass more than hidden states to the next ones give
            other states when blocks are skipped: one row is tried both ways, and such a model runs as a whole.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, Tensor],
        *,
        block: int = 0,
        start: int = 0,
        batch_size: int | None = None,
        prefixes: Sequence[SharedPrefix] = (),
    ) -> None:
        self._model, self.start, self._prefixes = model, start, prefixes
        self._below = [model.get_submodule(name) for name in block_names(model)[:block]]
        self._ids, self._mask = (inputs[name].to(model.device) for name in ("input_ids", "attention_mask"))
        self._positions, self.mask = positions(self._mask), self._mask.bool()
        count, length = self._mask.shape
        self._ends: list[int] = (self._mask * torch.arange(1, length + 1, device=model.device)).amax(1).tolist()
        passes = [self._first_pass(rows) for rows in torch.split(torch.arange(count), batch_size or count)]
        self.states, self.entering = (_joined(parts) for parts in zip(*(states for states, _ in passes), strict=True))
        layers = zip(*(past for _, past in passes), strict=True)
        self._past = [[torch.cat(tensors) for tensors in zip(*layer, strict=True)] for layer in layers]
        self.skips = False
        # A window that ends within the columns shifts states by little, in half precision by less than is rounded.
        possible = bool(self._past) and all_is_seen(DynamicCache(config=model.config), length) if start else self._below
        self.skips = bool(possible) and self._skipping_changes_nothing()

    @classmethod
    def of_rows(cls, model: PreTrainedModel, block: int, rows: Sequence[SplitRow]) -> "PrefixCache":
        """Rows of which all suffixes begin at one column: prefixes are padded on the left, suffixes on the right."""
        heads = [row.prefix for row in rows]
        shared = shared_prefixes(heads)
        parts = inputs_behind(heads, shared, fill=0), padded_inputs([row.suffix for row in rows])
        inputs = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
        return cls(model, inputs, block=block, start=parts[0]["input_ids"].shape[1], prefixes=shared)

    @torch.no_grad()
    def _first_pass(self, picked: Tensor) -> tuple[tuple[Tensor, Tensor], list[tuple[Tensor, Tensor]]]:
        """For some rows the states and what enters the block, and each layer's keys and values."""
        rows, columns = self._ids.shape
        past = past_of(self._model, self._prefixes, rows, columns, self._ids.device)
        begin = 0 if past is None else past.get_seq_length()
        cache = DynamicCache(config=self._model.config) if self.start and past is None else past
        # If no block is skipped, nothing is kept of the columns that run again.
        end = self.start if self.start and not self._below else self.start + self.longest(picked.tolist())
        entering: list[Tensor] = []
        with hooked(outputs={below: lambda _, made: entering.append(made) for below in self._below[-1:]}):
            states = self._run(picked.to(self._ids.device), begin, end, cache)[:, self.start - begin :]
        layers: Any = [] if cache is None else cache.layers
        try:
            kept = [(layer.keys[:, :, : self.start], layer.values[:, :, : self.start]) for layer in layers]
        except (AttributeError, TypeError, IndexError):  # not every layer keeps keys and values
            kept = []
        return (states, entering[0][:, self.start - begin :] if entering else states), kept

    @torch.no_grad()
    def _skipping_changes_nothing(self) -> bool:
        """Whether the row with the longest prefix has the same states when everything that can be skipped is."""
        tried = int(self.mask[:, : self.start].sum(1).argmax())
        real = self.mask[tried, self.start : self._ends[tried]]
        whole, skipped = self.run([tried])[0][real].float(), len(self._below)
        self.skips, self._past = True, [*map(_lengths_alone, self._past[:skipped]), *self._past[skipped:]]
        try:
            skipping = self.run([tried])[0][real].float()
            # Each block rounds the states twice, by eps/√12 in the mean, and roundings add up as in a random walk: two
            # ways of computing differ by eps·√(blocks/3). √3 times as much is allowed.
            rounding = torch.finfo(self.states.dtype).eps * math.sqrt(len(block_names(self._model)))
            if float((skipping - whole).norm()) <= (TOLERANCE + rounding) * float(whole.norm()):
                return True
            logger.info("%s gives other states when it skips; it runs whole.", type(self._model).__name__)
        except Exception as error:  # whatever a model's own code raises when it is not what it is taken for
            logger.info("%s cannot skip what is frozen (%s); it runs whole.", type(self._model).__name__, error)
        return False

    @property
    def begin(self) -> int:
        """The column at which a pass begins: ``start`` if passes skip, else 0."""
        return self.start if self.skips else 0

    def longest(self, picked: Sequence[int]) -> int:
        """How many columns from ``start`` on the longest of some rows has: :meth:`run` leaves out what is behind."""
        return max(self._ends[row] for row in picked) - self.start

    def run(self, picked: Sequence[int]) -> Tensor:
        """The output of the model's body at some rows from ``start`` on, (len(picked), longest of them, width)."""
        index, cache = torch.tensor(list(picked), device=self._ids.device), None
        if self.begin:
            cache = DynamicCache(config=self._model.config)
            for layer, (keys, values) in enumerate(self._past):
                cache.update(keys[index], values[index], layer)
        with self.skipping(picked):
            states = self._run(index, self.begin, self.start + self.longest(picked), cache)
        return states[:, self.start - self.begin :]

    def skipping(self, picked: Sequence[int]) -> AbstractContextManager[None]:
        """Inside, a forward pass over some rows, from ``begin`` to the longest's end, skips the blocks below.

        The model still needs the rows' ids and mask, from which it makes its positions.
        """
        if not self.skips:
            return nullcontext()
        states = self.entering[list(picked), : self.longest(picked)]
        return replaced_forward(self._below, lambda *_, **__: states)

    def placed(self, at_suffixes: Tensor) -> Tensor:
        """Values at the columns from ``start`` on, (rows, columns, width), with zeros at those that run before them."""
        return pad(at_suffixes, (0, 0, self.start - self.begin, 0))

    def _run(self, index: Tensor, begin: int, end: int, cache: DynamicCache | None) -> Tensor:
        body: Any = self._model.base_model
        given = known_arguments(
            body,
            attention_mask=self._mask[index, :end],
            position_ids=self._positions[index, begin:end],
            past_key_values=cache,
            use_cache=cache is not None,
        )
        states: Tensor = body(input_ids=self._ids[index, begin:end], **given)[0]
        return states


def _lengths_alone(layer: Sequence[Tensor]) -> list[Tensor]:
    """Of the keys and values of a skipped block, (rows, heads, columns, size), what tells how many columns they have.

    The model makes its masks from that, and nothing reads the rest, of which each pass would copy its rows.
    """
    return [tensor[:, :1, :, :1].clone() for tensor in layer]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """(rows, columns, width) of several batches in one, with zeros where a batch has fewer columns."""
    columns = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, 0, 0, columns - part.shape[1])) for part in parts])
