"""Keep the most important entries of every row of A and every column of B (Eq. 8-10)."""

import math

import numpy as np
import torch
from torch import Tensor

from roselora.errors import ConfigError, NonFiniteError

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of one entry


_FEW = 128
"""From how many entries for each kept one on torch's top-k is taken on a CPU (benchmarks/pruning_step.py)."""


def kept_count(density: float, length: int) -> int:
    """Return k = max(1, floor(density · length)), the entries kept of each row or column of that length.

    Raises:
        ConfigError: density is outside (0, 1], or length is below 1.
    """
    if not 0 < density <= 1:
        raise ConfigError(f"density must be above 0 and at most 1, not {density!r}.")
    if length < 1:
        raise ConfigError(f"A row or column must have at least 1 entry, not {length!r}.")
    return max(1, math.floor(density * length))


def keep_mask(importance: Tensor, kept: int, *, dim: int) -> Tensor:
    """Mark the `kept` largest scores of every group along `dim`; ties go to the lowest index (Eq. 8-10).

    Args:
        importance: scores of any float dtype on any device, with any number of leading batch dimensions;
            infinity is allowed, and -0.0 equals 0.0.
        kept: how many entries of each group stay, from 1 to the size of `dim`.
        dim: -1 for the rows of A (..., r, d_in), -2 for the columns of B (..., d_out, r).

    Returns:
        A bool tensor of importance's shape with exactly `kept` True in every group.

    Raises:
        ConfigError: `kept` is out of range.
        NonFiniteError: a score is NaN.
    """
    length = importance.shape[dim]
    if not 1 <= kept <= length:
        raise ConfigError(f"kept must be from 1 to {length}, the length of a group, not {kept!r}.")
    if kept == length:
        _refuse_nan(importance)
        return torch.ones_like(importance, dtype=torch.bool)
    scores = importance.detach()
    if scores.dtype != torch.float64:
        scores = scores.float()  # exact, and numpy has no bfloat16
    if scores.device.type == "cpu" and (settled := _settled(scores, kept, dim)) is not None:
        _refuse_nan(scores)
        return settled
    top = _largest(scores, kept, dim)
    _refuse_nan(top)  # NaN ranks above infinity, so any NaN is among the largest
    threshold = top.amin(dim, keepdim=True)
    mask = scores >= threshold
    # Every group has at least `kept` True, so the total tells whether any has more. On other devices the host
    # would have to wait for it, so ties are always broken there.
    if mask.device.type != "cpu" or int(mask.count_nonzero()) != kept * (mask.numel() // length):
        mask = _break_ties(scores, threshold, kept, dim)
    return mask


def prune_rows_(a: Tensor, importance: Tensor, density: float) -> Tensor:
    """Zero all but the most important entries of every row of A, in place (Eq. 8-10).

    Args:
        a: A, (..., r, d_in), any float dtype.
        importance: its smoothed scores, of the same shape.
        density: the fraction of every row that stays, in (0, 1].

    Returns:
        `a` itself; pruned entries are +0.0, the others untouched.

    Raises:
        ConfigError: the shapes differ, or density is out of range.
        NonFiniteError: a score is NaN; `a` is then untouched.
    """
    return _prune_(a, importance, density, dim=-1)


def prune_columns_(b: Tensor, importance: Tensor, density: float) -> Tensor:
    """Zero all but the most important entries of every column of B, (..., d_out, r), in place (Eq. 8-10).

    Everything else is as in `prune_rows_`.
    """
    return _prune_(b, importance, density, dim=-2)


def zero_unkept_(weight: Tensor, mask: Tensor) -> Tensor:
    """Zero the entries that `mask` does not mark, in place.

    Args:
        weight: any shape, any float dtype.
        mask: bool, of the same shape.

    Returns:
        `weight` itself; zeroed entries are +0.0, the others untouched.
    """
    # Zeroing the bits gives +0.0, where multiplying the numbers leaves -0.0 or NaN; masked_fill_ branches on
    # every entry and is up to ten times slower.
    weight.detach().view(_BITS[weight.element_size()]).mul_(mask)
    return weight


def _prune_(weight: Tensor, importance: Tensor, density: float, *, dim: int) -> Tensor:
    if weight.shape != importance.shape:
        raise ConfigError(
            f"The importance has shape {tuple(importance.shape)} but the weight has {tuple(weight.shape)}; "
            "they must be equal."
        )
    return zero_unkept_(weight, keep_mask(importance, kept_count(density, weight.shape[dim]), dim=dim))


def _settled(scores: Tensor, kept: int, dim: int) -> Tensor | None:
    """The mask, if no group has more than `kept` scores above zero and zeros fill it up; else None.

    So it is from some hundred steps after the ramp on: a pruned entry's score is 0, and its average has underflowed.
    numpy's partition is several times slower among so many equal numbers.
    """
    positive = scores > 0
    total, allowed = int(positive.count_nonzero()), kept * (scores.numel() // scores.shape[dim])
    if total > allowed or int(positive.count_nonzero(dim).max()) > kept:
        return None
    if total == allowed:
        return positive
    if int((scores >= 0).count_nonzero(dim).min()) < kept:
        return None
    return _break_ties(scores, torch.zeros_like(scores.narrow(dim, 0, 1)), kept, dim)


def _largest(scores: Tensor, kept: int, dim: int) -> Tensor:
    """Return the `kept` largest along `dim`, unordered."""
    # torch's top-k sorts only the k largest where they are few; else numpy's partition is faster on a CPU.
    if scores.device.type != "cpu" or kept * _FEW <= scores.shape[dim]:
        return scores.topk(kept, dim=dim, sorted=False).values
    # numpy selects 1.5 to 10 times faster than torch.kthvalue, and copies a transposed matrix faster too.
    groups = np.array(np.moveaxis(scores.numpy(), dim, -1), order="C")
    groups.partition(groups.shape[-1] - kept, axis=-1)
    return torch.from_numpy(groups[..., -kept:]).movedim(-1, dim)


def _break_ties(scores: Tensor, threshold: Tensor, kept: int, dim: int) -> Tensor:
    above = scores > threshold
    tied = scores == threshold
    room = kept - above.sum(dim, keepdim=True)
    return above | (tied & (tied.cumsum(dim) <= room))


def _refuse_nan(scores: Tensor) -> None:
    if bool(scores.max().isnan()):
        raise NonFiniteError("An importance score is NaN; look for NaN or infinity in the loss, weights and gradients.")
