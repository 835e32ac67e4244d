import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from roselora.editing.methods.margin_training import StepLoss, Stopped, margin_loss, train_to_margin
from roselora.editing.methods.token_batches import IGNORED
from roselora.errors import NonFiniteError

LOOP = {"learning_rate": 0.5, "first_stop": 0, "max_steps": 20, "margin": 0.9}


def scalars(*values: float) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(value)) for value in values]


def rising(parameters: list[nn.Parameter], seen: list[list[int]]) -> Callable[[Sequence[int]], dict[int, StepLoss]]:
    """Losses that fall as the parameters rise; each parameter is its edit's lead."""

    def losses(live: Sequence[int]) -> dict[int, StepLoss]:
        seen.append(list(live))
        return {
            n: StepLoss(-parameters[n], float(-parameters[n].detach()), float(parameters[n].detach())) for n in live
        }

    return losses


def test_each_edit_stops_by_itself_and_is_left_as_it_stopped() -> None:
    parameters, seen, told = scalars(0.0, -2.0, 1.5), [], []
    stopped = train_to_margin(
        [[p] for p in parameters], rising(parameters, seen), **LOOP, on_step=lambda *at: told.append(at)
    )
    assert [own.steps for own in stopped] == [2, 6, 0]
    assert all(own.reached for own in stopped)
    assert [float(p.detach()) for p in parameters] == pytest.approx([1.0, 1.0, 1.5], abs=1e-3)
    assert seen[:3] == [[0, 1, 2], [0, 1], [0, 1]]
    assert seen[3:] == [[1]] * 4
    assert [step for step, _ in told] == list(range(7))
    assert told[0][1] == pytest.approx(2.0), "the largest loss"


def test_no_edit_stops_before_the_first_stop_and_each_after_the_last_step() -> None:
    parameters = scalars(3.0, -90.0)
    stopped = train_to_margin([[p] for p in parameters], rising(parameters, []), **LOOP | {"first_stop": 2})
    assert stopped == [Stopped(2, True), Stopped(20, False)]


def test_logits_that_are_not_finite_are_refused() -> None:
    (parameter,) = scalars(0.0)
    with pytest.raises(NonFiniteError, match="after 0 steps"):
        train_to_margin([[parameter]], lambda _: {0: StepLoss(parameter, 0.0, math.nan)}, **LOOP)


def test_the_loss_is_the_cross_entropy_of_labelled_tokens_that_do_not_lead_enough() -> None:
    logits = torch.tensor([[[0.0, 1.0], [3.0, 0.0], [9.0, 9.0]]])
    labels = torch.tensor([[0, 0, IGNORED]])
    trailing = math.log(1 + math.e)  # -log softmax of the target that trails by 1 nat
    leading = math.log(1 + math.exp(-3))
    loss, lead = margin_loss(logits, labels, enough=4.0)
    assert (float(loss), lead) == (pytest.approx((trailing + leading) / 2), -1.0)
    loss, lead = margin_loss(logits, labels, enough=2.0)
    assert (float(loss), lead) == (pytest.approx(trailing / 2), -1.0)
