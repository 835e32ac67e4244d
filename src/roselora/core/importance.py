"""How much each entry of a factor matters: its sensitivity, and the moving average of it."""

import torch
from torch import Tensor

from roselora.errors import ConfigError


def sensitivity(weight: Tensor, gradient: Tensor) -> Tensor:
    """Return |w · ∂L/∂w| for every entry (Eq. 3): about how much the loss moves if it is zeroed.

    Args:
        weight: the factor *before* the optimizer's step, any shape, any float dtype.
        gradient: what the optimizer is about to use (unscaled, clipped, averaged), of the weight's shape.

    Returns:
        A new tensor of that shape, detached: fp64 if either input is fp64, otherwise fp32. Half-precision inputs are
        widened before they are multiplied, so small products do not underflow.

    Raises:
        ConfigError: the shapes differ.

    Example:
        >>> sensitivity(torch.tensor([2.0, -3.0]), torch.tensor([0.5, 1.0]))
        tensor([1., 3.])
    """
    _require_same_shape("gradient", gradient, "weight", weight)
    wide = torch.float64 if torch.float64 in (weight.dtype, gradient.dtype) else torch.float32
    return torch.mul(weight.detach().to(wide), gradient.detach().to(wide)).abs_()


def smooth_importance_(average: Tensor, sensitivity: Tensor, beta: float) -> Tensor:
    """Move the average towards the newest score, in place (Eq. 4): Ī ← β·Ī + (1-β)·I.

    Args:
        average: Ī, any shape, fp32 or fp64. It starts as the first score, which the caller copies.
        sensitivity: I, of the same shape; it takes the average's dtype.
        beta: how much of the old average stays, from 0 (no memory) to below 1.

    Returns:
        `average` itself.

    Raises:
        ConfigError: beta is outside [0, 1), or the shapes differ.

    Example:
        >>> smooth_importance_(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), beta=0.75)
        tensor([0.7500, 0.5000])
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"beta must be at least 0 and below 1, not {beta!r}.")
    _require_same_shape("sensitivity", sensitivity, "average", average)
    return average.lerp_(sensitivity.to(average.dtype), 1 - beta)


def _require_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.shape != other.shape:
        raise ConfigError(
            f"The {name} has shape {tuple(tensor.shape)} but the {other_name} has {tuple(other.shape)}; "
            "they must be equal."
        )
