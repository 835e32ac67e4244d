"""The inputs and outputs of a model's modules at one position of each of some texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from roselora.float64 import double
from roselora.models.activation_hooks import activations
from roselora.models.inference import known_arguments
from roselora.models.padding import padded_inputs, positions

BATCH_SIZE = 32


@dataclass(frozen=True)
class Context:
    """A text's tokens, and the position among them at which activations are read and changed.

    Attributes:
        ids, position: these.
        answer: the tokens that are to follow, where some are.
    """

    ids: list[int]
    position: int
    answer: tuple[int, ...] = ()


def left_padded(model: PreTrainedModel, contexts: Sequence[Context]) -> tuple[dict[str, Tensor], Tensor]:
    """Contexts as a batch whose rows end together, with the position ids that each has alone.

    Returns:
        ids, mask and position ids of shape (n, length), and the position of each context in its padded row, (n,) int64.
    """
    device = next(model.parameters()).device
    length = max(len(row.ids) for row in contexts)
    at = torch.tensor([length - len(row.ids) + row.position for row in contexts])
    inputs = padded_inputs([row.ids for row in contexts], side="left")
    inputs |= known_arguments(model, position_ids=positions(inputs["attention_mask"]))
    return {name: tensor.to(device) for name, tensor in inputs.items()}, at.to(device)


def read_states(
    model: PreTrainedModel, contexts: Sequence[Context], inputs_of: Sequence[str] = (), outputs_of: Sequence[str] = ()
) -> dict[str, Tensor]:
    """The inputs of some modules, and the outputs of others, at each context's position.

    Returns:
        by module, (n, width) fp64 on the module's device, or on the CPU if that has no fp64.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in (*inputs_of, *outputs_of)}
    for start in range(0, len(contexts), BATCH_SIZE):
        batch, at = left_padded(model, contexts[start : start + BATCH_SIZE])
        for name, read in activations(model, batch, list(parts)).items():
            states = read.input if name in inputs_of else read.output
            each = torch.arange(len(at), device=states.device)
            parts[name].append(double(states[each, at.to(states.device)]))
    return {name: torch.cat(tensors) for name, tensors in parts.items()}
