"""How far an edited model has moved from its base: by its greedy tokens and by its next-token distribution."""

from collections.abc import Sequence

from torch import Tensor

from roselora.float64 import double


def unmoved(base: Sequence[Sequence[int]], edited: Sequence[Sequence[int]]) -> list[bool]:
    """Locality: for each prompt, whether the edited model's greedy tokens are the base model's, one for one."""
    return [list(before) == list(after) for before, after in zip(base, edited, strict=True)]


def kl_divergence(base: Tensor, edited: Tensor) -> Tensor:
    """KL(base || edited) in nats, row by row.

    Args:
        base: (n, vocabulary) log-probabilities of the base model.
        edited: (n, vocabulary) log-probabilities of the edited model.

    Returns:
        (n,) fp64, at least 0; infinite where the edited model gives NaN, which is no distribution at all.
    """
    p, q = double(base), double(edited)
    # Where the base gives no probability there is nothing to lose, though 0 * inf would be NaN.
    terms = (p.exp() * (p - q)).masked_fill(p.isneginf() & ~q.isnan(), 0.0)
    return terms.sum(-1).clamp(min=0.0).masked_fill(q.isnan().any(-1), float("inf"))
