"""Gradient descent until an answer leads by a margin: the loop and the loss that both edit methods train with."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from roselora.editing.methods.adam_steps import adam_steps
from roselora.editing.methods.rose.row_pruning import RowPruning
from roselora.editing.methods.token_batches import IGNORED
from roselora.errors import NonFiniteError

MARGIN_SLACK = 0.5
"""How far beyond the margin, in nats, an answer is pushed, so that pruning or rounding does not at once undo it."""

OnStep = Callable[[int, float], None]
"""Called with each step's number, from 0, and the largest loss, in nats, of what is still trained."""


@dataclass(frozen=True)
class StepLoss:
    """What one forward pass says about an edit.

    Attributes:
        objective: the scalar that is minimized.
        loss: the part of it that is reported, in nats.
        lead: by how many nats the answer's tokens lead their runner-ups at least.
    """

    objective: Tensor
    loss: float
    lead: float


@dataclass(frozen=True)
class Stopped:
    """How training ended: the optimizer steps taken, and whether the answer leads by the margin."""

    steps: int
    reached: bool


def train_to_margin(
    parameters: Sequence[Sequence[nn.Parameter]],
    losses: Callable[[Sequence[int]], Mapping[int, StepLoss]],
    *,
    learning_rate: float,
    first_stop: int,
    max_steps: int,
    margin: float,
    on_step: OnStep | None = None,
    pruning: RowPruning | None = None,
) -> list[Stopped]:
    """Train several independent edits side by side by Adam; each stops as soon as its answer leads by the margin.

    Args:
        parameters: of each edit, its own.
        losses: from the numbers of the edits that are still trained to what a forward pass says about each.
        first_stop: steps before which no edit stops.
        max_steps: steps after which every edit stops.
        margin: in nats.
        pruning: of all parameters, around each step.

    Raises:
        NonFiniteError: an answer's lead is NaN or infinite.
    """
    stopped: dict[int, Stopped] = {}
    live = list(range(len(parameters)))
    after_step = None if pruning is None else pruning.prune
    for step in adam_steps([each for own in parameters for each in own], learning_rate, after_step):
        found = losses(live)
        for number in live:
            lead = found[number].lead
            if not math.isfinite(lead):
                raise NonFiniteError(
                    f"The logits are not finite after {step} steps; lower the learning rate, or load the model in "
                    "float32."
                )
            if step == max_steps or (lead >= margin and step >= first_stop):
                stopped[number] = Stopped(step, lead >= margin)
        if on_step is not None:
            on_step(step, max(found[number].loss for number in live))
        live = [number for number in live if number not in stopped]
        if not live:
            break
        # Adam skips the parameters of edits that have stopped, because they get no gradient here.
        objectives = [found[number].objective for number in live]
        torch.autograd.backward(objectives, inputs=[each for number in live for each in parameters[number]])
        if pruning is not None:
            pruning.score()
    return [stopped[number] for number in range(len(parameters))]


def margin_loss(logits: Tensor, labels: Tensor, enough: float) -> tuple[Tensor, float]:
    """Mean cross-entropy of the labelled tokens, in nats, and the smallest lead of one over its runner-up.

    A token that leads by ``enough`` adds no loss: pushing it on would only change what the model says elsewhere.

    Args:
        logits: (n, length, vocabulary).
        labels: (n, length), IGNORED where nothing is wanted.
        enough: the lead, in nats, from which on a token adds no loss.
    """
    labelled = labels != IGNORED
    scores, wanted = logits[labelled].float(), labels[labelled]
    with torch.no_grad():
        target = scores.gather(1, wanted[:, None])[:, 0]
        runner_up = scores.scatter(1, wanted[:, None], -torch.inf).amax(1)
        lead = target - runner_up
    loss = functional.cross_entropy(scores, wanted, reduction="none")
    return (loss * (lead < enough)).mean(), float(lead.min())
