"""Where the factor A starts: at the directions in which the edit's tokens stand out from those that must not change."""

from collections.abc import Sequence

import torch
from torch import Tensor

RIDGE = 0.1
"""Penalty of the inverse, in units of the negatives' mean square: they are too few tokens to span all inputs."""


def contrast_directions(edited: Tensor, kept: Tensor, rank: int) -> Tensor:
    """The directions a that maximize the mean of (a·x)^2 over the edited inputs over that of the kept ones.

    With C = kept' kept / N + ridge, they are the leading generalized eigenvectors of edited' edited and C. They are
    found from matrices whose sides are numbers of tokens, so the inputs' width costs no more than a product.

    Args:
        edited: (n, width), inputs at the edit's own tokens.
        kept: (N, width), inputs at tokens where nothing may change.
        rank: how many directions; where n is less, random ones of the same span follow.

    Returns:
        (rank, width); each has a mean square of 1 over the edited inputs.
    """
    ridge = RIDGE * float(kept.square().mean())
    eye = torch.eye(len(kept), device=kept.device)
    inner = torch.linalg.solve(kept @ kept.T + ridge * len(kept) * eye, kept @ edited.T)
    inverse = (edited.T - kept.T @ inner) / ridge  # C^-1 edited', (width, n), by the matrix inversion lemma
    _, vectors = torch.linalg.eigh(edited @ inverse)
    if rank > len(edited):
        more = torch.randn(len(edited), rank - len(edited), device=edited.device)
        vectors = torch.cat([more, vectors], dim=1)
    directions: Tensor = (inverse @ vectors[:, -rank:].flip(-1)).T
    sizes: Tensor = (edited @ directions.T).square().mean(0).sqrt()[:, None]
    return directions / sizes


def new_places(rows: Sequence[list[int]], known: Sequence[list[int]] = ()) -> list[list[int]]:
    """Of each row the places of tokens that no earlier or known row has after the same beginning.

    The rows' first tokens are left out: there a model's states are far larger than elsewhere, and tell nothing.

    >>> new_places([[5, 6, 7], [5, 6, 8]], known=[[5, 6, 9]])
    [[2], [2]]
    """
    seen = {tuple(row[:end]) for row in known for end in range(1, len(row) + 1)}
    found = []
    for row in rows:
        beginnings = {place: tuple(row[: place + 1]) for place in range(1, len(row))}
        found.append([place for place, beginning in beginnings.items() if beginning not in seen])
        seen.update(beginnings.values())
    return found
