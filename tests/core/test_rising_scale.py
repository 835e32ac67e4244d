import itertools

import pytest
import torch

from roselora.core.rising_scale import raise_scale_, scale_growth
from roselora.errors import ConfigError


def test_the_growth_by_hand() -> None:
    assert [scale_growth(density) for density in (1.0, 0.25, 0.04)] == [1.0, 2.0, 5.0]


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, float("nan")])
def test_a_density_outside_its_range_is_refused(density: float) -> None:
    with pytest.raises(ConfigError, match="density"):
        scale_growth(density)


def test_a_step_by_hand() -> None:
    b = torch.tensor([[1.5], [0.0]])
    # b's value 0.5 and its step 0.5, both times 4; and its value -0.5 with the step 1 / 2.
    assert raise_scale_(b, torch.tensor([[1.0], [-1.0]]), size=2.0, step=4.0) is b
    assert b.tolist() == [[4.0], [2.0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_is_the_factor_that_would_have_been_trained_under_the_scale(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    held, growths = raw.clone().to(dtype), [scale_growth(density) for density in (1.0, 0.7, 0.7, 0.2, 0.05)]
    for old, new in itertools.pairwise(growths):
        step = 0.1 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
        before = held.clone()
        held += step.to(dtype)
        raise_scale_(held, before, size=new / old, step=new)
        raw += step
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    torch.testing.assert_close(held.double(), growths[-1] * raw, rtol=tolerance, atol=tolerance * growths[-1])


def test_another_shape_is_refused_and_changes_nothing() -> None:
    b = torch.ones(2, 3)
    with pytest.raises(ConfigError, match="shape"):
        raise_scale_(b, torch.zeros(3, 2), size=2.0, step=2.0)
    assert torch.equal(b, torch.ones(2, 3))
