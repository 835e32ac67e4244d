"""Keep the most important entries of every row of A and every column of B (Eq. 8-10)."""

import math

import numpy as np
import torch
from torch import Tensor

from roselora.errors import ConfigError, NonFiniteError

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integer type of as many bytes as a float, by that number of bytes."""

_TOPK_RATIO = 128
"""On a CPU torch's top-k is used for groups at least this many times as long as what they keep. It sorts only the k
largest, and is faster than numpy's partition where they are so few (benchmarks/pruning_step.py)."""


def kept_count(density: float, length: int) -> int:
    """Return k = max(1, floor(density · length)), the entries kept of each row or column of that length.

    Raises:
        ConfigError: density is outside (0, 1], or length is below 1.

    Example:
        >>> kept_count(0.05, 4096), kept_count(0.05, 8)
        (204, 1)
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

    Example:
        >>> keep_mask(torch.tensor([[0.1, 0.3, 0.3, 0.2]]), 1, dim=-1)
        tensor([[False,  True, False, False]])
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
    if scores.device.type == "cpu" and (mask := _mask_of_few_positives(scores, kept, dim)) is not None:
        _refuse_nan(scores)
        return mask
    top = _largest(scores, kept, dim)  # for rows (..., r, kept), for columns (..., kept, r)
    _refuse_nan(top)  # NaN ranks above infinity, so any NaN is among the largest
    threshold = top.amin(dim, keepdim=True)  # the k-th largest of each group: (..., r, 1) or (..., 1, r)
    mask = scores >= threshold
    # Every group has at least `kept` True, so if the total is right, no group has more and there are no ties to break.
    # On a GPU the host would wait for that total, which takes longer than to break ties that are not there.
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

    Example:
        >>> prune_rows_(torch.tensor([[1.0, -2.0, 3.0, 4.0]]), torch.tensor([[0.4, 0.9, 0.1, 0.5]]), density=0.5)
        tensor([[ 0., -2.,  0.,  4.]])
    """
    return _prune_(a, importance, density, dim=-1)


def prune_columns_(b: Tensor, importance: Tensor, density: float) -> Tensor:
    """Zero all but the most important entries of every column of B, (..., d_out, r), in place (Eq. 8-10).

    Arguments, result and errors are as in `prune_rows_`.

    Example:
        >>> prune_columns_(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.3], [0.1]]), density=0.5)
        tensor([[1.],
                [0.]])
    """
    return _prune_(b, importance, density, dim=-2)


def zero_unkept_(weight: Tensor, mask: Tensor) -> Tensor:
    """Zero the entries that `mask` does not mark, in place.

    Args:
        weight: any shape, any float dtype.
        mask: bool, of the same shape.

    Returns:
        `weight` itself; zeroed entries are +0.0, the others untouched.

    Example:
        >>> zero_unkept_(torch.tensor([float("nan"), -2.0]), torch.tensor([False, True]))
        tensor([ 0., -2.])
    """
    # The bits are multiplied as an integer by 0 or 1, which gives +0.0. A product of floats would keep -0.0 and NaN,
    # and masked_fill_ branches on every entry, which takes up to ten times as long.
    weight.detach().view(_BITS[weight.element_size()]).mul_(mask)
    return weight


def _prune_(weight: Tensor, importance: Tensor, density: float, *, dim: int) -> Tensor:
    if weight.shape != importance.shape:
        raise ConfigError(
            f"The importance has shape {tuple(importance.shape)} but the weight has {tuple(weight.shape)}; "
            "they must be equal."
        )
    return zero_unkept_(weight, keep_mask(importance, kept_count(density, weight.shape[dim]), dim=dim))


def _mask_of_few_positives(scores: Tensor, kept: int, dim: int) -> Tensor | None:
    """The mask, if no group has more than `kept` positive scores and zeros suffice to fill it up; else None.

    This shortcut applies from some hundred steps after the ramp on: a pruned entry's score is 0, and its average, which
    shrinks by beta a step, has underflowed to 0. Without it every such step would partition groups of mostly equal
    numbers, for which numpy takes several times as long.
    """
    positive = scores > 0
    # The total is the cheapest of the three counts, and mostly decides.
    total, allowed = int(positive.count_nonzero()), kept * (scores.numel() // scores.shape[dim])
    if total > allowed or int(positive.count_nonzero(dim).max()) > kept:
        return None
    if total == allowed:
        return positive
    # Scores may be negative, with retention; a group that needs some of them to be full has no tie to break here.
    if int((scores >= 0).count_nonzero(dim).min()) < kept:
        return None
    return _break_ties(scores, torch.zeros_like(scores.narrow(dim, 0, 1)), kept, dim)


def _largest(scores: Tensor, kept: int, dim: int) -> Tensor:
    """Return the `kept` largest along `dim`, unordered."""
    if scores.device.type != "cpu" or kept * _TOPK_RATIO <= scores.shape[dim]:
        return scores.topk(kept, dim=dim, sorted=False).values
    # numpy's partition takes 1.5 to 10 times less than torch.kthvalue. It wants each group contiguous: the columns of B
    # (..., d_out, r) become rows (..., r, d_out) in a copy, which numpy also makes faster than torch.
    groups = np.array(np.moveaxis(scores.numpy(), dim, -1), order="C")
    groups.partition(groups.shape[-1] - kept, axis=-1)
    return torch.from_numpy(groups[..., -kept:]).movedim(-1, dim)


def _break_ties(scores: Tensor, threshold: Tensor, kept: int, dim: int) -> Tensor:
    """Mark all scores above the threshold, and of those equal to it the first, until `kept` are marked."""
    above = scores > threshold
    tied = scores == threshold
    room = kept - above.sum(dim, keepdim=True)  # how many tied scores each group can still keep
    return above | (tied & (tied.cumsum(dim) <= room))  # the running count numbers the tied scores by index


def _refuse_nan(scores: Tensor) -> None:
    if bool(scores.max().isnan()):
        raise NonFiniteError("An importance score is NaN; look for NaN or infinity in the loss, weights and gradients.")
