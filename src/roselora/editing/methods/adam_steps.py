"""The loop that every training of an edit shares: Adam's steps, which the loop's body ends."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import torch
from torch import Tensor


def adam_steps(
    parameters: Sequence[Tensor], learning_rate: float, after_step: Callable[[int], None] | None = None
) -> Iterator[int]:
    """Count Adam's steps from 0, and take each one after the loop's body has set the gradients.

    The body decides when training ends: it leaves the loop before the step that it does not want.

    >>> weight = torch.tensor([3.0], requires_grad=True)
    >>> for step in adam_steps([weight], learning_rate=1.0):
    ...     if (loss := weight.square().sum()) < 0.5:
    ...         break
    ...     loss.backward()
    >>> step
    3

    Args:
        after_step: called with the number of each step that was taken, before the gradients are cleared.
    """
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    for step in count():
        yield step
        optimizer.step()
        if after_step is not None:
            after_step(step)
        optimizer.zero_grad()
