"""95% intervals: Wilson's for rates, the bootstrap's for means."""

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959963984540054
"""The standard normal's 97.5% quantile."""

BLOCK = 2**18
"""Values that the bootstrap draws at once."""


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a rate (Wilson, 1927).

    Raises:
        ValueError: ``n`` is not positive, or ``successes`` is not within 0 and ``n``.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} are not a rate.")
    rate = successes / n
    scale = 1 + Z**2 / n
    centre = (rate + Z**2 / (2 * n)) / scale
    half = Z * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2)) / scale
    # At 0 and at n one end is exact; rounding would put it a hair off.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def sign_test(ups: int, downs: int) -> float:
    """The exact two-sided sign test of paired differences, which for wins and losses is McNemar's.

    Args:
        ups, downs: how many differences are above and below 0; those at 0 say nothing.

    Returns:
        The probability of so uneven a split, or a more uneven one, if both signs were equally likely.
    """
    n, fewer = ups + downs, min(ups, downs)
    tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
    return float(min(1.0, 2 * tail))


def bootstrap_interval(values: Sequence[float], *, seed: int = 0, resamples: int = 10_000) -> tuple[float, float]:
    """The percentile bootstrap's interval of a mean.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("There are no values to resample.")
    numbers = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    # In blocks: of thousands of values all picks at once would take half a gigabyte. The draws are the same.
    block = max(1, BLOCK // len(numbers))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        means[start : start + rows] = numbers[generator.integers(len(numbers), size=(rows, len(numbers)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
