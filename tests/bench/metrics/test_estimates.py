import numpy as np
import pytest

from roselora.bench.metrics import estimates
from roselora.bench.metrics.estimates import Estimate, bootstrap_interval, estimate, wilson_interval


def test_wilson_agrees_with_a_case_computed_by_hand() -> None:
    # p = .8, n = 10, z = 1.96: centre (.8 + .19207) / 1.38415 = .71674, half-width .22657
    assert wilson_interval(8, 10) == pytest.approx((0.49016, 0.94331), abs=1e-4)


def test_wilson_at_the_ends_stays_within_zero_and_one_and_is_not_empty() -> None:
    assert wilson_interval(0, 20) == (0.0, pytest.approx(0.16113, abs=1e-4))
    assert wilson_interval(20, 20) == (pytest.approx(0.83887, abs=1e-4), 1.0)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_rate(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        wilson_interval(successes, n)


def test_bootstrap_is_reproducible_and_near_the_normal_interval() -> None:
    values = list(np.random.default_rng(0).normal(size=400))
    low, high = bootstrap_interval(values, seed=1)
    assert (low, high) == bootstrap_interval(values, seed=1)
    mean, half = np.mean(values), 1.96 * np.std(values) / 20
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.02)


def test_bootstrap_of_equal_values_is_a_point_and_of_none_is_refused() -> None:
    assert bootstrap_interval([2.0, 2.0]) == (2.0, 2.0)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([])


def test_bootstrap_in_blocks_draws_what_one_draw_of_all_would(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(0).normal(size=37))
    picks = np.random.default_rng(5).integers(37, size=(1000, 37))
    whole = np.percentile(np.asarray(values)[picks].mean(axis=1), [2.5, 97.5])
    monkeypatch.setattr(estimates, "BLOCK", 37 * 33)
    assert bootstrap_interval(values, seed=5, resamples=1000) == tuple(whole)


def test_shares_of_zeros_and_ones_get_wilsons_interval_and_other_means_the_bootstraps() -> None:
    assert estimate([1.0, 0.0, None, 1.0, 1.0], share=True) == Estimate(0.75, *wilson_interval(3, 4), 4, "wilson")
    assert estimate([1.0, 1.0], share=True) == Estimate(1.0, *wilson_interval(2, 2), 2, "wilson")
    assert estimate([1.0, 0.5], share=True) == Estimate(0.75, *bootstrap_interval([1.0, 0.5]), 2, "bootstrap")
    assert estimate([None], share=True) is None
