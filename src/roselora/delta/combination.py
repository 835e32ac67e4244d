"""Several deltas as one: their factors side by side, so that one LoRA adapter holds them all."""

from collections.abc import Iterable

import torch

from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError


def combine(deltas: Iterable[SparseDelta]) -> SparseDelta:
    """One delta whose rank is the sum of all ranks and whose product is the sum of all products.

    Each scale is multiplied into B in fp32, as `SparseFactors.expand` does, so every term stays the same number;
    only the order of summation over deltas may round differently.

    Raises:
        ConfigError: there are no deltas, or two were made for different bases.
    """
    by_name: dict[str, list[SparseFactors]] = {}
    for delta in deltas:
        for factors in delta.weights:
            by_name.setdefault(factors.name, []).append(factors)
    return SparseDelta(tuple(_combine(parts) for parts in by_name.values()), {"method": "combined"})


def _combine(parts: list[SparseFactors]) -> SparseFactors:
    first = parts[0]
    base = (first.shape, first.layer, first.base_dtype, first.base_sha256)
    if any((part.shape, part.layer, part.base_dtype, part.base_sha256) != base for part in parts):
        raise ConfigError(f"{first.name} has another base in one delta than in another; they don't add up.")
    pairs = [part.to_factors() for part in parts]
    return SparseFactors.from_factors(
        first.name,
        torch.cat([a.float() for a, _ in pairs]),
        torch.cat([b.float() * part.scale for (_, b), part in zip(pairs, parts, strict=True)], dim=1),
        1.0,
        base_dtype=first.base_dtype,
        base_sha256=first.base_sha256,
        layer=first.layer,
    )
