"""The factors A and B of one adapter, read from the model's LoRA layers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from roselora.adapter.engines import refuse_flat_parameter
from roselora.errors import UnsupportedError

ROWS = -1
"""The dimension along which entries of A compete: each row of A (r, d_in) keeps its own top k."""

COLUMNS = -2
"""The dimension along which entries of B compete: each column of B (d_out, r) keeps its own top k."""


@dataclass(frozen=True)
class FactorPair:
    """A and B of one adapted matrix, whose update is ``scale * B @ A``.

    Attributes:
        name: the adapted module's name in the model.
        a: the parameter A, (r, d_in), or a convolution's (r, c_in, ...); :func:`as_matrix` flattens it.
        b: the parameter B, (d_out, r), or a convolution's (d_out, r, 1, ...).
        scale: the paper's s, alpha / r.
        experts: how many matrices the adapted parameter stacks. PEFT keeps the factors of all of them in one A,
            (experts * r, d_in), and one B, (d_out, r * experts); :func:`by_expert` separates them.
    """

    name: str
    a: nn.Parameter
    b: nn.Parameter
    scale: float
    experts: int = 1


def as_matrix(tensor: Tensor) -> Tensor:
    """View a factor, or one rank's part of it, as a matrix: (n, ...) becomes (n, product of the other dimensions).

    Raises:
        UnsupportedError: the memory layout (channels last) has no matrix view.
    """
    try:
        return tensor.view(tensor.shape[0], math.prod(tensor.shape[1:]))  # -1 fails where a rank holds no row
    except RuntimeError:
        raise UnsupportedError(
            f"A LoRA factor of shape {tuple(tensor.shape)} is not stored row by row; "
            "call model.to(memory_format=torch.contiguous_format) first."
        ) from None


def by_expert(a: Tensor, b: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """Split stacked factors into A (experts, r, d_in) and B (experts, d_out, r).

    PEFT lays out A (experts * r, d_in) expert by expert, but B (d_out, r * experts) term by term: its columns are term
    1 of every expert, then term 2 of every expert, and so on.

    >>> import torch
    >>> a, b = by_expert(torch.arange(4.0).view(4, 1), torch.arange(4.0).view(1, 4), experts=2)  # r 2, d_in 1, d_out 1
    >>> a.tolist(), b.tolist()
    ([[[0.0], [1.0]], [[2.0], [3.0]]], [[[0.0, 2.0]], [[1.0, 3.0]]])
    """
    return a.reshape(experts, -1, a.shape[1]), b.reshape(b.shape[0], -1, experts).permute(2, 0, 1)


def adapted_layers(model: nn.Module, adapter_name: str) -> list[tuple[str, LoraLayer]]:
    """The LoRA layers of ``model`` that hold the adapter, with their names."""
    return [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer) and (adapter_name in layer.lora_A or adapter_name in layer.lora_embedding_A)
    ]


def factor_pair(name: str, layer: LoraLayer, adapter_name: str) -> FactorPair:
    """The adapter's current A and B in one layer.

    Raises:
        UnsupportedError: FSDP1 or DeepSpeed has flattened them.
    """
    factors: Mapping[str, object]
    if adapter_name in layer.lora_A:
        modules = {"lora_A": layer.lora_A[adapter_name], "lora_B": layer.lora_B[adapter_name]}
        factors = {part: getattr(module, "weight", None) for part, module in modules.items()}
    else:
        embeddings = {"lora_A": layer.lora_embedding_A, "lora_B": layer.lora_embedding_B}
        factors = {part: getattr(parameters, adapter_name, None) for part, parameters in embeddings.items()}
    a, b = (refuse_flat_parameter(f"{name}.{part}", factor) for part, factor in factors.items())
    return FactorPair(name, a, b, float(layer.scaling[adapter_name]), getattr(layer, "num_experts", 1))


def factor_pairs(model: nn.Module, adapter_name: str) -> list[FactorPair]:
    """The adapter's A and B in every layer of ``model``, in the order of its modules."""
    return [factor_pair(name, layer, adapter_name) for name, layer in adapted_layers(model, adapter_name)]
