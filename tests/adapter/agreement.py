"""The factors of adapters, and whether two adapters are the same to the bit."""

import torch
from torch import Tensor, nn

from roselora.adapter.factors import factor_pairs


def factors(model: nn.Module, adapter: str = "default") -> list[Tensor]:
    """Copies of every A and B, as they are now."""
    return [factor.detach().clone() for pair in factor_pairs(model, adapter) for factor in (pair.a, pair.b)]


def assert_same(left: list[Tensor], right: list[Tensor]) -> None:
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a, b)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
