"""A block's MLP as neurons: each one's input rows, its activation and its output column."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from roselora.errors import UnsupportedError
from roselora.models.activation_hooks import hooked
from roselora.models.architecture import hidden_width, mlp_output

RECTIFIERS = ("silu", "swish", "relu", "quick_gelu")
"""Activations that are max(x, 0) for large |x|, beside everything that is called a GELU."""

_ACTIVATION_FIELDS = ("hidden_act", "hidden_activation", "activation_function")


@dataclass(frozen=True)
class NeuronRows:
    """The rows of a linear layer that are the neurons' input weights: neuron j has row ``offset`` + j."""

    layer: str
    offset: int = 0


@dataclass(frozen=True)
class Neurons:
    """The neurons of one block's MLP.

    For the MLP's input z, neuron j adds its column, times act(gate_j·z) · (up_j·z) or act(up_j·z), to the output.

    Attributes:
        block: the block's index.
        gate: the gate rows, or None for plain neurons.
        up: the other rows.
        writer: the output layer, whose column j is that of neuron j.
        count: the number of neurons.
        width: the size of a row, and of a column.
        act: the activation function.
    """

    block: int
    gate: NeuronRows | None
    up: NeuronRows
    writer: str
    count: int
    width: int
    act: Callable[[Tensor], Tensor]

    @property
    def entrance(self) -> str:
        """The layer whose input is the MLP's input z."""
        return self.up.layer if self.gate is None else self.gate.layer


def neurons(model: PreTrainedModel, block: int) -> Neurons:
    """The neurons of a block's MLP, found from the model's own structure.

    Raises:
        ConfigError: there is no such block.
        UnsupportedError: its MLP has neither plain neurons nor gated linear units, or its activation does not rectify.
    """
    writer = mlp_output(model, block)
    container, _, own = writer.rpartition(".")
    width = hidden_width(model)
    count = weight_matrix(model.get_submodule(writer)).shape[1]
    layers = {
        name: weight_matrix(layer)
        for name, layer in model.get_submodule(container).named_children()
        if isinstance(layer, nn.Linear | Conv1D) and name != own
    }
    found = {name: len(rows) for name, rows in layers.items() if rows.shape[1] == width}
    single = [name for name, rows in found.items() if rows == count]
    fused = [name for name, rows in found.items() if rows == 2 * count and "gate" in name and "up" in name]
    act = _activation(model)
    if act is not None and len(single) == 1 and not fused:
        return Neurons(block, None, NeuronRows(f"{container}.{single[0]}"), writer, count, width, act)
    if act is not None and len(single) == 2 and sum("gate" in name for name in single) == 1:
        up, gate = sorted(single, key=lambda name: "gate" in name)
        readers = NeuronRows(f"{container}.{gate}"), NeuronRows(f"{container}.{up}")
        return Neurons(block, *readers, writer, count, width, act)
    if act is not None and len(fused) == 1 and not single:
        layer = f"{container}.{fused[0]}"
        gate_first = fused[0].index("gate") < fused[0].index("up")
        readers = NeuronRows(layer, 0 if gate_first else count), NeuronRows(layer, count if gate_first else 0)
        return Neurons(block, *readers, writer, count, width, act)
    raise UnsupportedError(
        f"{container} of {type(model).__name__} is not an MLP of plain neurons or gated linear units whose activation "
        "rectifies."
    )


def weight_matrix(layer: nn.Module) -> Tensor:
    """A view of a linear layer's weight as (outputs, inputs), also for GPT-2's Conv1D, which stores it transposed."""
    weight = layer.get_parameter("weight").detach()
    return weight.T if isinstance(layer, Conv1D) else weight


@contextmanager
def recorded_inputs(model: nn.Module, mlp: Neurons) -> Iterator[list[Tensor]]:
    """Inside, each forward pass appends the MLP's input, (rows, length, width), to the list."""
    read: list[Tensor] = []

    with hooked(inputs={model.get_submodule(mlp.entrance): read.append}):
        yield read


def added_output(model: nn.Module, mlp: Neurons, more: Tensor) -> AbstractContextManager[None]:
    """Inside, ``more`` is added to the MLP's output, both of shape (rows, length, width)."""

    writer = model.get_submodule(mlp.writer)
    return hooked(outputs={writer: lambda _, made: made + more.view_as(made).to(made.dtype)})


def silenced(model: nn.Module, mlp: Neurons, indices: Sequence[int]) -> AbstractContextManager[None]:
    """Inside, some neurons of the MLP have activity 0; no weight is changed."""
    at = torch.tensor(indices, dtype=torch.long)

    writer = model.get_submodule(mlp.writer)
    return hooked(inputs={writer: lambda activity: activity.index_fill(-1, at.to(activity.device), 0.0)})


def _activation(model: PreTrainedModel) -> Callable[[Tensor], Tensor] | None:
    names = (getattr(model.config, field, None) for field in _ACTIVATION_FIELDS)
    name = next((name for name in names if isinstance(name, str)), "")
    rectifies = name in RECTIFIERS or "gelu" in name
    act: Callable[[Tensor], Tensor] | None = ACT2FN[name] if rectifies else None
    return act


@torch.no_grad()
def neuron_activity(mlp: Neurons, gate: Tensor | None, up: Tensor, inputs: Tensor) -> Tensor:
    """The activity, (..., n), of neurons with these rows, (n, width), on inputs (..., width)."""
    read = inputs @ up.T
    return mlp.act(read) if gate is None else mlp.act(inputs @ gate.T) * read


@torch.no_grad()
def own_importance(model: nn.Module, mlp: Neurons, inputs: Tensor) -> Tensor:
    """E[a²]·‖d‖² of the MLP's neurons, (neurons,), on inputs (tokens, width) fp32: what each adds to the output."""

    def rows(reader: NeuronRows) -> Tensor:
        weight = weight_matrix(model.get_submodule(reader.layer))
        return weight[reader.offset : reader.offset + mlp.count].float()

    activity = neuron_activity(mlp, None if mlp.gate is None else rows(mlp.gate), rows(mlp.up), inputs)
    columns = weight_matrix(model.get_submodule(mlp.writer)).float()
    return activity.square().mean(0) * columns.square().sum(0)
