import math

import pytest
import torch

from roselora.editing.methods.rose.factor_training import answer_loss
from roselora.editing.methods.token_batches import IGNORED


def test_the_loss_is_the_cross_entropy_of_labelled_tokens_that_do_not_lead_enough() -> None:
    logits = torch.tensor([[[0.0, 1.0], [3.0, 0.0], [9.0, 9.0]]])
    labels = torch.tensor([[0, 0, IGNORED]])
    trailing = math.log(1 + math.e)  # -log softmax of the target that trails by 1 nat
    leading = math.log(1 + math.exp(-3))
    loss, lead = answer_loss(logits, labels, enough=4.0)
    assert (float(loss), lead) == (pytest.approx((trailing + leading) / 2), -1.0)
    loss, lead = answer_loss(logits, labels, enough=2.0)
    assert (float(loss), lead) == (pytest.approx(trailing / 2), -1.0)
