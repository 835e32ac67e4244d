"""What an entry is worth when some behaviour must stay: its use for the task less its harm elsewhere."""

from torch import Tensor

from roselora.errors import ConfigError


def retain_(importance: Tensor, retention: Tensor, weight: float) -> Tensor:
    """Subtract what an entry does to behaviour that must stay, in place: I ← I - λ·R.

    R = |w · ∂K/∂w| is the sensitivity (Eq. 3) of K, the KL divergence from the base model on prompts that should not
    move: to first order, how much of that divergence would go if the entry were zeroed, as I is to first order how
    much loss would come back. The difference ranks entries by what they do for the task beyond λ times what they do
    elsewhere. The moving average (Eq. 4) is linear, so smoothing the difference is the difference of the smoothed.

    Args:
        importance: I, any shape, fp32 or fp64.
        retention: R, of the same shape, not negative.
        weight: λ, at least 0.

    Returns:
        `importance` itself; it may be negative now, which ranks last.

    Raises:
        ConfigError: the weight is negative, or the shapes differ.
    """
    if not weight >= 0:
        raise ConfigError(f"The weight of retention must be at least 0, not {weight!r}.")
    if importance.shape != retention.shape:
        raise ConfigError(
            f"The retention has shape {tuple(retention.shape)} but the importance has {tuple(importance.shape)}; "
            "they must be equal."
        )
    return importance.sub_(retention.to(importance.dtype), alpha=weight)
