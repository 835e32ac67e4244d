"""Whether some deltas add up to finite weights, without the model that they are for."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import NonFiniteError
from roselora.files import dtype_name

ROOM = 4096
"""A move below this part of a dtype's largest number is not worth adding up what others do there."""


def require_finite(changed: SparseDelta, active: Callable[[], Iterable[SparseDelta]]) -> None:
    """Refuse that a delta comes or goes, if at an entry of it the active ones alone are too much for the dtype.

    Args:
        changed: the one that comes or goes.
        active: all that are active afterwards, in commit order; asked for only if `changed` moves something far.

    Raises:
        NonFiniteError: their sum would not be finite, whatever the base holds there.
    """
    far = [factors for factors in changed.weights if _moves_far(factors)]
    others = list(active()) if far else []
    for factors in far:
        index = factors.expand()[0].numpy()
        total = np.zeros(index.size, np.float32)
        for delta in others:
            for other in delta.weights:
                if other.name == factors.name:
                    at, value = (part.numpy() for part in other.expand())
                    _, here, there = np.intersect1d(index, at, assume_unique=True, return_indices=True)
                    total[here] += value[there]
        if not torch.from_numpy(total).to(factors.base_dtype).isfinite().all():
            raise NonFiniteError(
                f"{factors.name} would not be finite in {dtype_name(factors.base_dtype)} with the edits that would be "
                "active then; nothing was changed."
            )


def _moves_far(factors: SparseFactors) -> bool:
    value = factors.expand()[1]
    return bool(len(value)) and float(value.abs().max()) > torch.finfo(factors.base_dtype).max / ROOM
