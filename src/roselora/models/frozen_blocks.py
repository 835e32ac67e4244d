"""Blocks that training does not change, run once: what they make of a row is kept, and given back in their place."""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from roselora.models.activation_hooks import activations, replaced_forward
from roselora.models.architecture import blocks

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""How far, relatively, a probability's logarithm may be off before a model is taken for one that cannot skip."""


class LowerBlocks:
    """What comes into one block of a model for each of some right-padded rows, computed once.

    Arguments:
        model: a causal model; nothing below the block may change, and no dropout may act there, as long as this is
            used.
        first: the index of the lowest block that still runs.
        rows: the ids of each row, without padding.

    The states take 4 bytes times the model's width a token in fp32.
    """

    def __init__(self, model: PreTrainedModel, first: int, rows: Sequence[list[int]]) -> None:
        self._model = model
        names = blocks(model)
        self._below = [model.get_submodule(name) for name in names[:first]]
        self._last = names[first - 1]
        self._states = [self._read(row) for row in rows]

    def _read(self, row: list[int]) -> Tensor:
        """What the last block below gives out at each token, (length, width)."""
        inputs = {"input_ids": torch.tensor([row], device=self._model.device)}
        return activations(self._model, inputs, [self._last])[self._last].output[0]

    @contextmanager
    def skipped(self, picked: Sequence[int]) -> Iterator[None]:
        """Inside, a forward pass of these rows, padded on the right, begins at the first block.

        The model must still be given the rows' ids and mask, from which it makes its positions.
        """
        states = pad_sequence([self._states[index] for index in picked], batch_first=True)
        with replaced_forward(self._below, lambda *_, **__: states):
            yield


def lower_blocks(model: PreTrainedModel, first: int, rows: Sequence[list[int]]) -> LowerBlocks | None:
    """The rows' way through the blocks below ``first``, or None where there are none or the model does not allow it.

    Models whose blocks hand more than hidden states to the next ones (shared keys and values, inputs of each layer's
    own) give other logits when blocks are skipped: the first row is tried both ways, and such a model runs as a whole.
    """
    if first == 0 or not rows:
        return None
    try:
        lower = LowerBlocks(model, first, rows)
        whole = _last_log_probabilities(model, rows[0])
        with lower.skipped([0]):
            skipping = _last_log_probabilities(model, rows[0])
    except Exception as error:  # whatever a model's own code raises when its blocks are not what it takes them for
        logger.info("%s cannot skip its lower blocks (%s); they run at every step.", type(model).__name__, error)
        return None
    if not torch.allclose(whole, skipping, rtol=TOLERANCE, atol=TOLERANCE):
        logger.info("%s gives other logits without its lower blocks; they run at every step.", type(model).__name__)
        return None
    return lower


@torch.no_grad()
def _last_log_probabilities(model: PreTrainedModel, row: list[int]) -> Tensor:
    forward: Any = model
    options = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    logits = forward(input_ids=torch.tensor([row], device=model.device), use_cache=False, **options).logits
    predicted: Tensor = logits[0, -1].float().log_softmax(-1)
    return predicted
