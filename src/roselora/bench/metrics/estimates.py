"""Means with their n and 95% interval (Wilson's for rates, the bootstrap's for means), and ranges of costs."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_SEED = 0

Z = 1.959963984540054
"""The standard normal's 97.5% quantile."""

BLOCK = 2**18
"""How many values the bootstrap of a mean draws at once."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval.

    Attributes:
        value: the mean; it is inf or NaN if one of its values is.
        low, high: the interval; None where a value is not finite.
        n: how many values it is the mean of.
        interval: how the interval was made.
        non_finite: how many of the values are inf or NaN.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    interval: Literal["wilson", "bootstrap"]
    non_finite: int = 0


@dataclass(frozen=True)
class CostRange:
    """The median of a cost over n edits or runs, and its least and greatest value."""

    median: float
    least: float
    most: float
    n: int


def estimate(values: Iterable[float | None], *, share: bool, seed: int = BOOTSTRAP_SEED) -> Estimate | None:
    """The mean of the values that are not None; None if there are none.

    >>> estimate([1.0, 0.0, None, 1.0, 1.0], share=True).n
    4

    Args:
        share: whether they are shares of questions. If every share is 0 or 1, the interval is Wilson's, because the
            bootstrap would give equal shares an interval of no width. All other means get the bootstrap's.
        seed: of the bootstrap.
    """
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    mean = sum(numbers) / len(numbers)
    if non_finite := sum(not math.isfinite(value) for value in numbers):
        return Estimate(mean, None, None, len(numbers), "bootstrap", non_finite)
    if share and set(numbers) <= {0.0, 1.0}:
        return Estimate(mean, *wilson_interval(round(sum(numbers)), len(numbers)), len(numbers), "wilson")
    return Estimate(mean, *bootstrap_interval(numbers, seed=seed), len(numbers), "bootstrap")


def cost_range(values: Iterable[float | None]) -> CostRange | None:
    """Median and range of the values that are not None; None if there are none."""
    numbers = [value for value in values if value is not None]
    return CostRange(statistics.median(numbers), min(numbers), max(numbers), len(numbers)) if numbers else None


def mean_share(shares: Mapping[str, float]) -> float | None:
    """One case's share over its sub-types, each of which counts alike (EasyEdit's order of averaging)."""
    return sum(shares.values()) / len(shares) if shares else None


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a rate (Wilson, 1927).

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)

    Raises:
        ValueError: ``n`` is not positive, or ``successes`` is not within 0 and ``n``.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} are not a rate.")
    rate = successes / n
    scale = 1 + Z**2 / n
    centre = (rate + Z**2 / (2 * n)) / scale
    half = Z * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2)) / scale
    # At 0 and at n one end is exact; rounding would put it slightly off.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def bootstrap_interval(
    values: Sequence[float], *, seed: int = BOOTSTRAP_SEED, resamples: int = 10_000
) -> tuple[float, float]:
    """The percentile bootstrap's interval of a mean.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("There are no values to resample.")
    numbers = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    # In blocks: with thousands of values, all draws at once would take half a gigabyte. The draws are the same.
    block = max(1, BLOCK // len(numbers))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        means[start : start + rows] = numbers[generator.integers(len(numbers), size=(rows, len(numbers)))].mean(axis=1)
    return _percentiles(means)


def bootstrap_interval_of(
    statistic: Callable[[NDArray[np.int64]], float], n: int, *, resamples: int, seed: int = BOOTSTRAP_SEED
) -> tuple[float, float]:
    """The percentile bootstrap's interval of a statistic that is not a mean, such as a correlation.

    Args:
        statistic: of the rows whose indices, (n,), it is given.
    """
    generator = np.random.default_rng(seed)
    return _percentiles(np.array([statistic(generator.integers(n, size=n)) for _ in range(resamples)]))


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
