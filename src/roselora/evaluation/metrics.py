"""The metrics of knowledge editing, on answers, tokens and distributions that a model has produced."""

import string
from collections.abc import Iterable, Sequence

from torch import Tensor

ARTICLES = ("a", "an", "the")


def normalize(answer: str) -> str:
    """An answer without case, outer punctuation, outer space and a leading article."""
    words = answer.casefold().strip(string.punctuation + string.whitespace).split()
    if len(words) > 1 and words[0] in ARTICLES:
        words = words[1:]
    return " ".join(words)


def matches(answer: str, targets: Iterable[str]) -> bool:
    """Whether the answer equals one of the targets after :func:`normalize`."""
    return normalize(answer) in {normalize(target) for target in targets}


def unmoved(base: Sequence[Sequence[int]], edited: Sequence[Sequence[int]]) -> list[bool]:
    """Locality: for each prompt, whether the edited model's greedy tokens are the base model's, one for one."""
    return [list(before) == list(after) for before, after in zip(base, edited, strict=True)]


def kl_divergence(base: Tensor, edited: Tensor) -> Tensor:
    """KL(base || edited) in nats, row by row.

    Args:
        base: (n, vocabulary) log-probabilities of the base model.
        edited: (n, vocabulary) log-probabilities of the edited model.

    Returns:
        (n,) fp64, at least 0.
    """
    p, q = base.double(), edited.double()
    # Where the base gives no probability there is nothing to lose, though 0 * inf would be NaN.
    terms = (p.exp() * (p - q)).masked_fill(p.isneginf(), 0.0)
    return terms.sum(-1).clamp(min=0.0)
