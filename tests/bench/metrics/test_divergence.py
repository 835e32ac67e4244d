"""Whether an edit leaves the other answers as they are."""

import math

import pytest
import torch

from roselora.bench.metrics.divergence import kl_divergence, unmoved


def test_locality_is_token_for_token() -> None:
    assert unmoved([[1, 2], [3], []], [[1, 2], [3, 4], []]) == [True, False, True]
    with pytest.raises(ValueError, match="shorter"):
        unmoved([[1]], [])


def test_kl_is_in_nats_of_the_base_from_the_edited_model() -> None:
    base = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()
    edited = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    by_hand = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), math.log(2)]
    assert kl_divergence(base, edited).tolist() == pytest.approx(by_hand)
    assert kl_divergence(base, base).tolist() == [0.0, 0.0]


def test_a_model_that_gives_nan_is_infinitely_far_away() -> None:
    base = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()
    broken = torch.tensor([[math.nan, 0.0], [0.0, math.nan]])
    assert kl_divergence(base, broken).tolist() == [math.inf, math.inf]
