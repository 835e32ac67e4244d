"""Which entries of an edit's factors stay: those that serve the edit more than they harm what must not move."""

from collections.abc import Callable

import torch
from peft import PeftModel
from torch import Tensor

from roselora.adapter.pruner import retain_
from roselora.adapter.tracking import adapters_within
from roselora.core.importance import sensitivity

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From a factor, the edit loss's gradient and that of the KL divergence elsewhere to what each entry is worth."""


def locality_aware(retention: float) -> Score:
    """The sensitivity of the edit's loss (Eq. 3) less ``retention`` times that of the KL divergence elsewhere."""

    def score(weight: Tensor, edit_gradient: Tensor, keep_gradient: Tensor) -> Tensor:
        return retain_(sensitivity(weight, edit_gradient), sensitivity(weight, keep_gradient), retention)

    return score


def backward_scored(model: PeftModel, edit_loss: Tensor, keep_loss: Tensor, keep_weight: float, score: Score) -> None:
    """Set the gradients of ``edit_loss + keep_weight * keep_loss``, and tell the pruner what each entry is worth.

    It takes two passes back, for the two losses' gradients are needed apart.

    Args:
        model: with one RoseLoRA adapter, of which alone the losses shall be functions.
        edit_loss, keep_loss: scalars of one graph.
    """
    ((tracked, adapter),) = adapters_within(model)
    factors = list(tracked.factors(adapter.name))
    parameters = [parameter for _, parameter, _ in factors]
    edit_gradients = torch.autograd.grad(edit_loss, parameters, retain_graph=True)
    keep_gradients = torch.autograd.grad(keep_loss, parameters)
    adapter.scores = {}
    for (name, parameter, _), of_edit, of_keep in zip(factors, edit_gradients, keep_gradients, strict=True):
        adapter.scores[name] = score(parameter.detach(), of_edit, of_keep)
        parameter.grad = of_edit.add(of_keep, alpha=keep_weight)
