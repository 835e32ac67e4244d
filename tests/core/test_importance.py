import pytest
import torch

from roselora.core.importance import sensitivity, smooth_importance_
from roselora.errors import ConfigError


def test_sensitivity_is_the_absolute_product_of_weight_and_gradient():
    weight = torch.tensor([[2.0, -3.0, 0.0], [-0.5, 1.0, 4.0]])
    gradient = torch.tensor([[-1.0, -2.0, 5.0], [4.0, 0.0, 0.25]])
    expected = torch.tensor([[2.0, 6.0, 0.0], [2.0, 0.0, 1.0]])
    assert torch.equal(sensitivity(weight, gradient), expected)


@pytest.mark.parametrize("weight_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gradient_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sensitivity_is_fp32_unless_an_input_is_fp64(weight_dtype, gradient_dtype):
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).to(weight_dtype)
    gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).to(gradient_dtype)
    wide = torch.float64 if torch.float64 in (weight_dtype, gradient_dtype) else torch.float32
    score = sensitivity(weight, gradient)
    assert score.dtype == wide
    assert torch.equal(score, (weight.to(wide) * gradient.to(wide)).abs())


def test_sensitivity_of_half_precision_inputs_does_not_underflow():
    small = torch.full((2, 2), 1e-4, dtype=torch.float16)
    assert (small * small == 0).all()
    assert (sensitivity(small, small) > 0).all()


def test_sensitivity_leaves_its_inputs_alone_and_out_of_autograd():
    weight = torch.nn.Parameter(torch.tensor([-2.0]))
    gradient = torch.tensor([3.0])
    score = sensitivity(weight, gradient)
    assert not score.requires_grad
    assert weight.item() == -2.0
    assert gradient.item() == 3.0


def test_sensitivity_refuses_shapes_that_would_broadcast():
    with pytest.raises(ConfigError, match=r"gradient has shape \(3,\) but the weight has \(2, 3\)"):
        sensitivity(torch.ones(2, 3), torch.ones(3))


def test_the_average_keeps_beta_of_the_old_and_takes_the_rest_from_the_new():
    average = torch.tensor([1.0, 0.0, 10.0], dtype=torch.float64)
    result = smooth_importance_(average, torch.tensor([0.0, 1.0, 20.0], dtype=torch.float64), 0.8)
    assert result is average
    expected = torch.tensor([0.8, 0.2, 12.0], dtype=torch.float64)
    torch.testing.assert_close(average, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 0.8, 0.99])
def test_the_average_equals_equation_4_over_many_steps(beta):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(20, 5, dtype=torch.float64, generator=generator)
    average, expected = scores[0].clone(), scores[0].tolist()
    for score in scores[1:]:
        smooth_importance_(average, score, beta)
        expected = [beta * old + (1 - beta) * new for old, new in zip(expected, score.tolist(), strict=True)]
    assert average.tolist() == pytest.approx(expected, rel=1e-13)


def test_the_average_keeps_its_own_dtype():
    average = torch.zeros(2, dtype=torch.float64)
    smooth_importance_(average, torch.ones(2), 0.5)
    assert average.dtype == torch.float64
    assert average.tolist() == [0.5, 0.5]


def test_equal_scores_stay_equal_wherever_they_stand():
    average = torch.full((37,), 0.3)
    smooth_importance_(average, torch.full((37,), 0.7), 0.8)
    assert average.unique().numel() == 1


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_a_beta_outside_its_range_is_refused(beta):
    with pytest.raises(ConfigError, match="beta must be"):
        smooth_importance_(torch.zeros(1), torch.ones(1), beta)


def test_an_average_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match="sensitivity has shape"):
        smooth_importance_(torch.zeros(2, 2), torch.ones(2), 0.8)
