"""Rows of which only the ends are run again: what comes before them, and the blocks below, is kept from one pass."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from roselora.models.activation_hooks import hooked, replaced_forward
from roselora.models.architecture import blocks
from roselora.models.inference import known_arguments
from roselora.models.padding import padded_inputs, positions

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""How far, relative to the largest, a hidden state may be off before a model is taken for one that cannot skip."""


@dataclass(frozen=True)
class TailRow:
    """A text in two parts.

    Attributes:
        head: tokens that are run once.
        tail: tokens that are run at every pass, at least one.
    """

    head: list[int]
    tail: list[int]


class Tails:
    """Some rows' way through a model, of which only the tails' positions in the upper blocks are run again.

    Heads are padded on the left and tails on the right, so that all tails begin at one position. Nothing below the
    block may change as long as this is used, and nothing above it may change what a head's tokens give out.

    Arguments:
        model: a causal model in eval mode.
        block: the index of the lowest block that runs again, at least 1.
        rows: at least one.

    Attributes:
        states: (n, longest tail, width), what the model's body gave out at the tails in the first pass.
        entering: (n, longest tail, width), what came into the block there.
        mask: (n, longest head + longest tail), bool, where there are tokens.
        lengths: of each row's tail.
        start: where the tails begin.
        skips: whether passes skip. Models whose blocks hand more than hidden states to the next ones give other
            states when blocks are skipped: the first row is tried both ways, and such a model runs as a whole.
    """

    def __init__(self, model: PreTrainedModel, block: int, rows: Sequence[TailRow]) -> None:
        self._model, self._block = model, block
        names = blocks(model)
        self._below = [model.get_submodule(name) for name in names[:block]]
        parts = padded_inputs([row.head for row in rows], side="left"), padded_inputs([row.tail for row in rows])
        whole = {name: torch.cat([part[name] for part in parts], dim=1).to(model.device) for name in parts[0]}
        self._ids, self._mask = whole["input_ids"], whole["attention_mask"]
        self._positions = positions(self._mask)
        self.start, self.mask = max(len(row.head) for row in rows), self._mask.bool()
        self.lengths = [len(row.tail) for row in rows]
        self._heads: list[tuple[Tensor, Tensor]] = []
        self.states, self.entering = self._first_pass()
        self.skips = bool(self._heads) and self._finds_the_same()

    @torch.no_grad()
    def _first_pass(self) -> tuple[Tensor, Tensor]:
        """Run everything, and keep the heads' keys and values."""
        cache = DynamicCache(config=self._model.config)
        entering: list[Tensor] = []
        given = known_arguments(self._body, past_key_values=cache, use_cache=True)
        with hooked(outputs={self._below[-1]: lambda _, made: entering.append(made)}):
            states = self._run(self._ids, self._mask, self._positions, given)
        layers: Any = cache.layers
        try:
            kept = [(layer.keys[:, :, : self.start], layer.values[:, :, : self.start]) for layer in layers]
        except (AttributeError, TypeError, IndexError):  # not every layer keeps keys and values
            kept = []
        self._heads = [(keys.contiguous(), values.contiguous()) for keys, values in kept]
        return states[:, self.start :], entering[0][:, self.start :].contiguous()

    @torch.no_grad()
    def _finds_the_same(self) -> bool:
        """Whether the first row's tail gives the same states when everything else is skipped."""
        real = self.lengths[0]
        self.skips = True
        try:
            again, once = self.run([0])[0], self.states[0, :real]
        except Exception as error:  # whatever a model's own code raises when it is not what it is taken for
            logger.info("%s cannot skip what is frozen (%s); it runs whole.", type(self._model).__name__, error)
            return False
        if float((again - once).abs().max()) > TOLERANCE * float(once.abs().max()):
            logger.info("%s gives other states when it skips; it runs whole.", type(self._model).__name__)
            return False
        return True

    def longest(self, picked: Sequence[int]) -> int:
        """The length of the longest of some rows' tails, to which :meth:`run` pads the others."""
        return max(self.lengths[row] for row in picked)

    def run(self, picked: Sequence[int]) -> Tensor:
        """What the model's body gives out at the tails of some rows, (len(picked), longest of these tails, width)."""
        index, end = torch.tensor(list(picked), device=self._model.device), self.start + self.longest(picked)
        if not self.skips:
            given = known_arguments(self._body, use_cache=False)
            whole = self._run(self._ids[index, :end], self._mask[index, :end], self._positions[index, :end], given)
            return whole[:, self.start :]
        cache = DynamicCache(config=self._model.config)
        for layer, (keys, values) in enumerate(self._heads):
            cache.update(keys[index], values[index], layer)
        given = known_arguments(self._body, past_key_values=cache, use_cache=True)
        tails = slice(self.start, end)
        states = self.entering[index, : end - self.start]
        with replaced_forward(self._below, lambda *_, **__: states):
            return self._run(self._ids[index, tails], self._mask[index, :end], self._positions[index, tails], given)

    def placed(self, at_tails: Tensor) -> Tensor:
        """Values at the tails, (rows, tokens, width), as they lie in a pass: with zeros at the heads it runs."""
        return at_tails if self.skips else torch.nn.functional.pad(at_tails, (0, 0, self.start, 0))

    @property
    def _body(self) -> Any:
        return self._model.base_model

    def _run(self, ids: Tensor, mask: Tensor, positions: Tensor, given: dict[str, Any]) -> Tensor:
        given = known_arguments(self._body, attention_mask=mask, position_ids=positions) | given
        states: Tensor = self._body(input_ids=ids, **given)[0]
        return states
