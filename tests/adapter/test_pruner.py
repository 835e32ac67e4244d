import pytest
import torch

from roselora.adapter.pruner import retain_
from roselora.core.importance import smooth_importance_
from roselora.core.pruning import keep_mask
from roselora.errors import ConfigError


def test_what_harms_elsewhere_is_subtracted_by_hand() -> None:
    importance = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    result = retain_(importance, torch.tensor([[5.0, 0.0, 0.5, 0.0]]), 0.5)
    assert result is importance
    assert importance.tolist() == [[1.5, 3.0, 1.75, 1.0]]
    assert keep_mask(importance, 2, dim=-1).tolist() == [[False, True, True, False]]


def test_smoothing_the_difference_is_the_difference_of_the_smoothed() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, harms = torch.rand(2, 6, 3, 5, generator=generator, dtype=torch.float64)
    together, apart, harm = scores[0] - 0.7 * harms[0], scores[0].clone(), harms[0].clone()
    for score, hurt in zip(scores[1:], harms[1:], strict=True):
        smooth_importance_(together, retain_(score.clone(), hurt, 0.7), 0.8)
        smooth_importance_(apart, score, 0.8)
        smooth_importance_(harm, hurt, 0.8)
    torch.testing.assert_close(together, apart - 0.7 * harm)


def test_a_negative_weight_or_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 0"):
        retain_(torch.ones(2), torch.ones(2), -1)
    with pytest.raises(ConfigError, match="at least 0"):
        retain_(torch.ones(2), torch.ones(2), float("nan"))
    with pytest.raises(ConfigError, match="must be equal"):
        retain_(torch.ones(2), torch.ones(3), 1)
