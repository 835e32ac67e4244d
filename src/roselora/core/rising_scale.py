"""A scale that rises as the factors thin out (ours, not the paper's): s·g(τ) in place of s, with g(τ) = τ^-½."""

from torch import Tensor

from roselora.errors import ConfigError


def scale_growth(density: float) -> float:
    """Return g(τ) = τ^-½, what the scale s of s·B·A is multiplied by at a density τ.

    A row of A that keeps a fraction τ of like entries keeps that fraction of its squared norm, so a step of B moves the
    product τ^½ times as far as it did before. g makes up for that. The learning rate cannot: where it is as high as
    sparse factors need, training diverges while they are dense.

    Args:
        density: τ, in (0, 1].

    Raises:
        ConfigError: the density is out of range.

    Example:
        >>> scale_growth(1.0), scale_growth(0.25)
        (1.0, 2.0)
    """
    if not 0 < density <= 1:
        raise ConfigError(f"density must be above 0 and at most 1, not {density!r}.")
    return float(density**-0.5)


def raise_scale_(b: Tensor, before: Tensor, *, size: float, step: float) -> Tensor:
    """Give B, in place, the step that it would have had under a scale s·g, though s itself stays constant.

    B holds g times the factor b that is trained under s·g, so s·B·A = s·g·b·A. After a step u, under g₁, the scale
    rises to g₂, and B = g₁·b becomes g₂·(b + u) = (g₂/g₁)·B + g₂·u. An optimizer whose step does not depend on the
    gradient's size, such as Adam, makes the same step u of B as of b, and has already added it. So alpha stays what the
    config says, and an adapter that is saved at any step is an ordinary one.

    Args:
        b: B after the optimizer's step, any shape, any float dtype.
        before: B before that step, of the same shape and dtype.
        size: g₂/g₁, by how much the growth that B holds rises.
        step: g₂, the growth from here on.

    Returns:
        `b` itself.

    Raises:
        ConfigError: the shapes differ.

    Example:
        >>> import torch
        >>> raise_scale_(torch.tensor([2.0, 5.0]), torch.tensor([2.0, 4.0]), size=3.0, step=3.0)
        tensor([ 6., 15.])
    """
    if b.shape != before.shape:
        raise ConfigError(
            f"B has shape {tuple(b.shape)} but had {tuple(before.shape)} before the step; they must be equal."
        )
    return b.sub_(before).mul_(step).add_(before, alpha=size)
