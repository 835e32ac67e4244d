"""A delta's factors as programs that read LoRA adapters want them: the scale in B, and for most one rank for all."""

from collections.abc import Iterator

from torch import Tensor
from torch.nn.functional import pad

from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError, NonFiniteError


def largest_rank(delta: SparseDelta) -> int:
    """The largest rank of any layer."""
    return max(factors.rank for factors in delta.weights)


def with_scale_in_b(delta: SparseDelta) -> Iterator[tuple[str, SparseFactors, Tensor, Tensor]]:
    """Each layer's name, its factors, and A (r, d_in) and B (d_out, r) in fp32, where the scale is in B.

    Raises:
        ConfigError: a weight's name does not end in ".weight", so it is not a layer's.
        NonFiniteError: a scaled B is not finite in fp32.
    """
    for factors in delta.weights:
        module = factors.name.removesuffix(".weight")
        if module == factors.name:
            raise ConfigError(f"{factors.name} is not a layer's weight, so it cannot be part of a LoRA adapter.")
        A, B = factors.to_factors()
        B = B.float() * factors.scale
        if not bool(B.isfinite().all()):
            raise NonFiniteError(f"{factors.name}: B times its scale {factors.scale} is not finite in float32.")
        yield module, factors, A.float(), B


def of_one_rank(delta: SparseDelta) -> Iterator[tuple[str, SparseFactors, Tensor, Tensor]]:
    """As `with_scale_in_b`, but r is the largest rank of any: behind the factors' own rank there are zeros."""
    rank = largest_rank(delta)
    for module, factors, A, B in with_scale_in_b(delta):
        missing = rank - factors.rank
        yield module, factors, pad(A, (0, 0, 0, missing)), pad(B, (0, missing))
