"""Whether the active deltas alone would overflow a weight's dtype; checked without loading the model."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import NonFiniteError
from roselora.files import dtype_name

SMALL_CHANGES = 4096
"""A change smaller than the dtype's largest number divided by this cannot be what causes an overflow."""


def require_finite(changed: SparseDelta, active: Callable[[], Iterable[SparseDelta]]) -> None:
    """Refuse an undo or redo after which the sum of the active deltas would overflow, whatever the base holds there.

    Args:
        changed: the delta that is taken out or brought back; only its entries are looked at.
        active: gives all deltas that are active afterwards, in commit order; called only if
            an entry of `changed` is large.

    Raises:
        NonFiniteError: the sum would not be finite in the weight's dtype.
    """
    large = [factors for factors in changed.weights if _has_large_entry(factors)]
    others = list(active()) if large else []
    for factors in large:
        index = factors.expand()[0].numpy()  # (n,) flat positions in the weight, ascending
        total = np.zeros(index.size, np.float32)
        for other in (own for delta in others for own in delta.weights if own.name == factors.name):
            at, value = (part.numpy() for part in other.expand())
            _, here, there = np.intersect1d(index, at, assume_unique=True, return_indices=True)
            total[here] += value[there]
        if not torch.from_numpy(total).to(factors.base_dtype).isfinite().all():
            raise NonFiniteError(
                f"{factors.name} would not be finite in {dtype_name(factors.base_dtype)} with the edits that would be "
                "active then; nothing was changed."
            )


def _has_large_entry(factors: SparseFactors) -> bool:
    value = factors.expand()[1]
    return bool(len(value)) and float(value.abs().max()) > torch.finfo(factors.base_dtype).max / SMALL_CHANGES
