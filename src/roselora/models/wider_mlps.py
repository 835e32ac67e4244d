"""A model whose MLPs have more neurons, which are zero: it answers as before, and edits have room of their own."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from roselora.errors import ConfigError, UnsupportedError
from roselora.models.architecture import block_names
from roselora.models.mlp_neurons import Neurons, neurons

_WIDTH_FIELDS = ("intermediate_size", "ffn_dim", "n_inner")


@torch.no_grad()
def widen(model: PreTrainedModel, more: int) -> None:
    """Append neurons to the MLP of every block, in place: the rows that they read with and their columns are 0.

    Every block gets as many, because the formats that models are kept in have one width for all.

    Args:
        model: not quantized, with MLPs of plain neurons or of gated linear units, all of one width.
        more: how many neurons each MLP gets, at least 1. Formats that quantize weights in groups want the whole width
            to be a multiple of their size, which is 256 at most in GGUF.

    Raises:
        ConfigError: ``more`` is below 1.
        UnsupportedError: an MLP has no neurons that could be told apart, blocks share one, its weights are quantized,
            or the config has no width for all MLPs.

    Example:
        >>> from roselora.models import load
        >>> model = load("model").model
        >>> before = model.config.intermediate_size
        >>> widen(model, 256)
        >>> model.config.intermediate_size - before
        256
    """
    if more < 1:
        raise ConfigError(f"The MLPs can be given 1 neuron or more, not {more}.")
    mlps = [neurons(model, block) for block in range(len(block_names(model)))]
    counts = {mlp.count for mlp in mlps}
    field = next((name for name in _WIDTH_FIELDS if hasattr(model.config, name)), None)
    if len(counts) > 1 or field is None or getattr(model.config, field) not in (*counts, None):
        raise UnsupportedError(
            f"The config of {type(model).__name__} has no width for the MLPs of all blocks "
            f"({', '.join(_WIDTH_FIELDS)}), so they cannot be widened."
        )
    weights = [model.get_submodule(mlp.writer).get_parameter("weight") for mlp in mlps]
    if len({id(weight) for weight in weights}) < len(mlps) or not all(weight.is_floating_point() for weight in weights):
        raise UnsupportedError(
            f"The MLPs of {type(model).__name__} are shared or quantized, so they cannot be widened."
        )
    [count] = counts
    for mlp in mlps:
        _widen_one(model, mlp, more)
    setattr(model.config, field, count + more)


def _widen_one(model: PreTrainedModel, mlp: Neurons, more: int) -> None:
    container: Any = model.get_submodule(mlp.writer.rpartition(".")[0])
    if hasattr(container, "intermediate_size"):
        container.intermediate_size = mlp.count + more
    readers = {reader.layer for reader in (mlp.gate, mlp.up) if reader is not None}
    for name in readers:
        layer: Any = model.get_submodule(name)
        _replace(layer, "weight", _with_zeros(layer.weight, mlp.count, more, dim=int(isinstance(layer, Conv1D))))
        if layer.bias is not None:
            _replace(layer, "bias", _with_zeros(layer.bias, mlp.count, more, dim=0))
        _resize(layer)
    writer: Any = model.get_submodule(mlp.writer)
    _replace(writer, "weight", _with_zeros(writer.weight, mlp.count, more, dim=int(not isinstance(writer, Conv1D))))
    _resize(writer)


def _with_zeros(tensor: Tensor, count: int, more: int, *, dim: int) -> Tensor:
    """Zeros behind each ``count`` entries of a dimension: one layer may hold both the gate rows and the other rows."""
    shape = list(tensor.shape)
    shape[dim] = more
    parts = torch.split(tensor, count, dim)
    return torch.cat([piece for part in parts for piece in (part, tensor.new_zeros(shape))], dim)


def _resize(layer: Any) -> None:
    """Correct the sizes that a layer knows from when it was made."""
    if isinstance(layer, Conv1D):
        layer.nx, layer.nf = layer.weight.shape
    else:
        layer.out_features, layer.in_features = layer.weight.shape


def _replace(layer: Any, name: str, value: Tensor) -> None:
    setattr(layer, name, nn.Parameter(value, requires_grad=getattr(layer, name).requires_grad))
