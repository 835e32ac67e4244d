"""Which cases, questions or training examples a run takes."""

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def drawn(items: Sequence[Item], n: int | None, seed: int, skip: int = 0) -> list[Item]:
    """``n`` items in an order shuffled by the seed, after the first ``skip`` of them; all the rest if ``n`` is None.

    So a larger ``n`` contains the items of a smaller one, and a draw that skips as many items as another one took
    contains none of that other's.

    >>> drawn(range(6), 3, seed=1)[:2] == drawn(range(6), 2, seed=1)
    True
    >>> drawn(range(6), 3, seed=1)[1:] == drawn(range(6), 2, seed=1, skip=1)
    True
    """
    shuffled = random.Random(seed).sample(items, len(items))[skip:]
    return shuffled if n is None else shuffled[:n]
