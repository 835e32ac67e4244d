"""The rows of a fitted edit as its values are trained on them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from roselora.editing.methods.gate.gate_fitting import FittedEdit


@dataclass(frozen=True)
class TrainingRows:
    """The prompts, as active as they make the neurons, and then all rows with an activity of at most 1.

    Prompts in other words activate the neurons less than the prompts do, down to 1, and are to get the answer too.

    Attributes:
        rows: of each the number of the cache's row.
        prompts: how many of them, the first ones, are edited prompts; the others are generated rephrasings.
        activity: (rows, longest suffix, k). Training changes only what the neurons write, so this stays constant.
        beside: (rows, longest suffix, width), what else changes in the MLP's output.
        labels: (rows, longest answer) int64, the index in the vocabulary of the token that must follow, or IGNORED.
    """

    rows: list[int]
    prompts: int
    activity: Tensor
    beside: Tensor
    labels: Tensor

    @classmethod
    def of(cls, fit: FittedEdit) -> "TrainingRows":
        """The rows of a fitted edit; its prompts are there twice."""
        prompts = fit.prompts

        def twice(values: Tensor) -> Tensor:
            return torch.cat([values[:prompts], values])

        activity = torch.cat([fit.activity[:prompts], at_most_1(fit.activity)])
        beside = activity @ fit.columns - twice(fit.before)
        return cls([*fit.rows[:prompts], *fit.rows], 2 * prompts, activity, beside, twice(fit.labels))


def at_most_1(activity: Tensor) -> Tensor:
    """The activity (rows, tokens, k), scaled down at each token so that no neuron's exceeds 1.

    The neurons of one token's forms are often active together, and keep their proportion.

    >>> at_most_1(torch.tensor([[[4.0, 1.0], [0.5, 0.0]]]))
    tensor([[[1.0000, 0.2500],
             [0.5000, 0.0000]]])
    """
    return activity / activity.abs().amax(-1, keepdim=True).clamp(min=1.0)
