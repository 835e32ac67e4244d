import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roselora.core.schedule import density_at
from roselora.errors import ConfigError


def test_the_ramp_follows_the_cubic_by_hand():
    densities = [density_at(step, target=0.2, ramp_start=2, ramp_end=6) for step in range(1, 9)]
    by_hand = [1, 1, 0.2 + 0.8 * 27 / 64, 0.2 + 0.8 / 8, 0.2 + 0.8 / 64, 0.2, 0.2, 0.2]
    assert densities == pytest.approx(by_hand, rel=1e-15)


def test_the_editing_settings_of_the_published_code_reach_their_target_at_step_20():
    densities = [density_at(step, target=0.05, ramp_start=3, ramp_end=20) for step in range(1, 26)]
    assert densities[:3] == [1.0] * 3
    assert 0.05 < densities[18] < 0.0503
    assert densities[19:] == [0.05] * 6


def test_equal_ends_make_one_jump_after_the_start():
    densities = [density_at(step, target=0.1, ramp_start=3, ramp_end=3) for step in range(1, 6)]
    assert densities == [1.0, 1.0, 1.0, 0.1, 0.1]


def test_a_ramp_from_zero_to_zero_is_at_the_target_from_the_first_step():
    assert density_at(1, target=0.1, ramp_start=0, ramp_end=0) == 0.1


@settings(deadline=None)
@given(
    target=st.floats(0, 1, exclude_min=True),
    ramp_start=st.integers(0, 50),
    length=st.integers(0, 200),
)
def test_density_never_rises_and_stays_between_the_target_and_one(target, ramp_start, length):
    ramp_end = ramp_start + length
    steps = range(1, ramp_end + 3)
    densities = [density_at(step, target=target, ramp_start=ramp_start, ramp_end=ramp_end) for step in steps]
    assert all(later <= earlier for earlier, later in itertools.pairwise(densities))
    assert max(densities) <= 1.0
    assert min(densities) == densities[-1] == target


@pytest.mark.parametrize("target", [0.0, -0.1, 1.5, float("nan")])
def test_a_target_outside_its_range_is_refused(target):
    with pytest.raises(ConfigError, match="target density"):
        density_at(1, target=target, ramp_start=0, ramp_end=1)


@pytest.mark.parametrize(("ramp_start", "ramp_end"), [(-1, 3), (4, 3)])
def test_a_ramp_that_runs_backwards_or_starts_below_zero_is_refused(ramp_start, ramp_end):
    with pytest.raises(ConfigError, match="ramp_start"):
        density_at(1, target=0.5, ramp_start=ramp_start, ramp_end=ramp_end)


def test_step_zero_is_refused():
    with pytest.raises(ConfigError, match="step counts from 1"):
        density_at(0, target=0.5, ramp_start=0, ramp_end=1)
