import pytest
import torch
from torch import Tensor, nn

from roselora.delta.combination import combine
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError
from roselora.files import sha256_tensor


def sparse(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * (torch.rand(*shape, generator=generator) < 0.3)


def delta(model: nn.Linear, seed: int, rank: int, scale: float) -> SparseDelta:
    factors = SparseFactors.from_factors(
        "weight",
        sparse(rank, 12, seed=seed),
        sparse(9, rank, seed=seed + 1),
        scale,
        base_dtype=torch.float32,
        base_sha256=sha256_tensor(model.weight),
    )
    return SparseDelta((factors,))


def dense(delta: SparseDelta) -> Tensor:
    (factors,) = delta.weights
    a, b = factors.to_factors()
    return factors.scale * b @ a


def test_the_combined_product_is_the_sum_of_the_products() -> None:
    model = nn.Linear(12, 9)
    first, second = delta(model, 0, 3, 2.0), delta(model, 5, 2, 0.5)
    both = combine([first, second])
    assert both.weights[0].rank == 5
    torch.testing.assert_close(dense(both), dense(first) + dense(second))


def test_deltas_of_different_bases_or_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="different bases"):
        combine([delta(nn.Linear(12, 9), 0, 3, 1.0), delta(nn.Linear(12, 9), 0, 3, 1.0)])
    with pytest.raises(ConfigError, match="no deltas"):
        combine([])
