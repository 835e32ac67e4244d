"""What a model predicts along given texts, all of them in few forward passes (teacher forcing)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from roselora.errors import ConfigError
from roselora.models.activation_hooks import hooked
from roselora.models.generation import BATCH_SIZE
from roselora.models.inference import default_torch_modes, eval_mode, known_arguments, unwrapped
from roselora.models.padding import pad_rows, padded_inputs

NO_TOKEN = -1
"""What stands for the prediction where the logits hold NaN: it equals no token, so NaN is never right."""


@dataclass(frozen=True)
class TeacherForcedRow:
    """A text, and the first position whose prediction is asked for; so are all positions after it.

    Attributes:
        ids: the text's tokens, at least one.
        start: an index into ``ids``; the prediction there is of the token that follows it.
    """

    ids: list[int]
    start: int


@dataclass(frozen=True)
class TeacherForced:
    """What the model predicts along a row.

    Attributes:
        tokens: the argmax at every asked position, ``len(row.ids) - row.start`` of them, or NO_TOKEN.
        first: (vocabulary,) the logits at the first asked position, in the model's dtype, where the model is.
    """

    tokens: list[int]
    first: Tensor

    def log_probabilities(self) -> Tensor:
        """(vocabulary,) log-probabilities at the first asked position, nats, fp32, on the CPU."""
        return self.first.float().log_softmax(-1).cpu()


def teacher_forced(
    model: PreTrainedModel, rows: Sequence[TeacherForcedRow], *, batch_size: int = BATCH_SIZE
) -> Iterator[tuple[int, TeacherForced]]:
    """Each row's index and predictions, one by one in no certain order, so that logits need not be kept.

    Rows of like length go through the model together, padded on the right: a causal model's predictions before the
    padding do not depend on it. Logits are computed at the asked positions alone: a batch holds
    (asked positions, vocabulary) of them.

    Raises:
        ConfigError: ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1.")
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index].ids), rows[index].start))
    for begin in range(0, len(order), batch_size):
        indices = order[begin : begin + batch_size]
        yield from zip(indices, _batch(model, [rows[index] for index in indices]), strict=True)


@default_torch_modes()
@torch.no_grad()
def _batch(model: PreTrainedModel, rows: Sequence[TeacherForcedRow]) -> list[TeacherForced]:
    """The predictions along rows that fit into one forward pass."""
    inputs = padded_inputs([row.ids for row in rows])
    asked = pad_rows([[place >= row.start for place in range(len(row.ids))] for row in rows]).bool()
    logits = _logits_where(model, inputs, asked)
    tokens = logits.argmax(-1).masked_fill(logits.isnan().any(-1), NO_TOKEN)
    counts = [len(row.ids) - row.start for row in rows]
    pairs = zip(torch.split(tokens, counts), torch.split(logits, counts), strict=True)
    # Copies of the first rows, so that keeping one does not keep all.
    return [TeacherForced(found.tolist(), own[0].clone()) for found, own in pairs]


def _logits_where(model: PreTrainedModel, inputs: dict[str, Tensor], asked: Tensor) -> Tensor:
    """The logits, (asked positions, vocabulary), row by row.

    The last layer is the dearest of a small model and its output the largest tensor of any, so it is given the asked
    positions' hidden states alone, as one row.
    """
    device = next(model.parameters()).device
    asked = asked.to(device)
    last = unwrapped(model).get_output_embeddings()
    forward: Any = model

    options = {name: rows.to(device) for name, rows in inputs.items()} | known_arguments(model, use_cache=False)
    with eval_mode(model), hooked(inputs={last: lambda states: states[asked][None]}):
        logits: Tensor = forward(**options).logits[0]
    return logits
