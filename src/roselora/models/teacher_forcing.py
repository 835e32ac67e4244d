"""A model's next-token predictions along given texts (teacher forcing), in few forward passes."""

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
"""The prediction where the logits contain NaN: it equals no token, so NaN never counts as right."""


@dataclass(frozen=True)
class TeacherForcedRow:
    """A text, and the positions in it to predict from.

    Attributes:
        ids: the text's tokens, at least one.
        start: the first position to predict from; the prediction is of the token after it. All later positions follow.
    """

    ids: list[int]
    start: int


@dataclass(frozen=True)
class TeacherForced:
    """The model's predictions along a row.

    Attributes:
        tokens: the argmax at every position from ``start`` on, ``len(row.ids) - row.start`` of them, or NO_TOKEN.
        first: (vocabulary,) the logits at ``start``, in the model's dtype and on its device.
    """

    tokens: list[int]
    first: Tensor

    def log_probabilities(self) -> Tensor:
        """(vocabulary,) log-probabilities at ``start`` in nats, fp32, on the CPU."""
        return self.first.float().log_softmax(-1).cpu()


def teacher_forced(
    model: PreTrainedModel, rows: Sequence[TeacherForcedRow], *, batch_size: int = BATCH_SIZE
) -> Iterator[tuple[int, TeacherForced]]:
    """Each row's index and predictions, in any order; yielded one by one, so that no logits need to be kept.

    Rows of similar length are batched and padded on the right: a causal model's predictions before the padding do not
    depend on it. Logits are computed at the positions from ``start`` on only, (positions, vocabulary) for a batch.

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
    """The predictions along the rows of one forward pass."""
    inputs = padded_inputs([row.ids for row in rows])
    asked = pad_rows([[place >= row.start for place in range(len(row.ids))] for row in rows]).bool()
    logits = _logits_where(model, inputs, asked)
    tokens = logits.argmax(-1).masked_fill(logits.isnan().any(-1), NO_TOKEN)
    counts = [len(row.ids) - row.start for row in rows]
    pairs = zip(torch.split(tokens, counts), torch.split(logits, counts), strict=True)
    # Copies of the first logits, so that keeping one does not keep all of the batch.
    return [TeacherForced(found.tolist(), own[0].clone()) for found, own in pairs]


def _logits_where(model: PreTrainedModel, inputs: dict[str, Tensor], asked: Tensor) -> Tensor:
    """The logits, (asked positions, vocabulary), row by row.

    The output layer is the most expensive of a small model and has the largest output of any. So it gets the hidden
    states at the asked positions only, as one row.
    """
    device = next(model.parameters()).device
    asked = asked.to(device)
    last = unwrapped(model).get_output_embeddings()
    forward: Any = model

    options = {name: rows.to(device) for name, rows in inputs.items()} | known_arguments(model, use_cache=False)
    with eval_mode(model), hooked(inputs={last: lambda states: states[asked][None]}):
        logits: Tensor = forward(**options).logits[0]
    return logits
