"""Several deltas as one: their factors side by side, so that one LoRA adapter holds them all."""

from collections.abc import Iterable

import torch

from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError


def by_weight(deltas: Iterable[SparseDelta]) -> dict[str, list[SparseFactors]]:
    """The factors of all deltas by the weight's name; in each list, in the order of the deltas.

    Raises:
        ConfigError: there are no deltas, or two were made for different bases.
    """
    found: dict[str, list[SparseFactors]] = {}
    for delta in deltas:
        for factors in delta.weights:
            found.setdefault(factors.name, []).append(factors)
    if not found:
        raise ConfigError("There are no deltas to combine.")
    for name, parts in found.items():
        if len({(part.shape, part.layer, part.base_dtype, part.base_sha256) for part in parts}) > 1:
            raise ConfigError(f"The deltas were made for different bases of {name}, so they cannot be added up.")
    return found


def combine(deltas: Iterable[SparseDelta]) -> SparseDelta:
    """One delta whose rank is the sum of all ranks and whose product is the sum of all products.

    Each scale is multiplied into its B in fp32, as `SparseFactors.expand` does, so every term stays the same number;
    only the order of summation over deltas may round differently.

    Raises:
        ConfigError: there are no deltas, or two were made for different bases.

    Example:
        >>> from roselora.delta.layer_kinds import layer_factors
        >>> layer = torch.nn.Linear(3, 2)
        >>> first = layer_factors("layer", layer, torch.tensor([[0.0, 2, 0]]), torch.tensor([[1.0], [0]]), scale=1.0)
        >>> second = layer_factors("layer", layer, torch.tensor([[0.0, 1, 1]]), torch.tensor([[3.0], [0]]), scale=1.0)
        >>> (both,) = combine([SparseDelta((first,)), SparseDelta((second,))]).weights
        >>> both.rank, both.expand()
        (2, (tensor([1, 2]), tensor([5., 3.])))
    """
    return SparseDelta(tuple(_combine(parts) for parts in by_weight(deltas).values()), {"method": "combined"})


def _combine(parts: list[SparseFactors]) -> SparseFactors:
    pairs = [part.to_factors() for part in parts]
    return SparseFactors.from_factors(
        parts[0].name,
        torch.cat([a.float() for a, _ in pairs]),
        torch.cat([b.float() * part.scale for (_, b), part in zip(pairs, parts, strict=True)], dim=1),
        1.0,
        base_dtype=parts[0].base_dtype,
        base_sha256=parts[0].base_sha256,
        layer=parts[0].layer,
    )
