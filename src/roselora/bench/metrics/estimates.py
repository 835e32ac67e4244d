"""Means over cases with their n and 95% interval, and costs with their range."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from roselora.bench.metrics.intervals import bootstrap_interval, wilson_interval

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean over cases, with its 95% interval.

    Attributes:
        value: the mean; it is inf or NaN if one of its values is.
        low, high: the interval, or None where values are not finite, so that there is none.
        n: the cases that it is the mean of.
        interval: how the interval was made.
        non_finite: how many of the n values are inf or NaN.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    interval: Literal["wilson", "bootstrap"]
    non_finite: int = 0


@dataclass(frozen=True)
class CostRange:
    """The median of a cost over n edits, and the least and the most that one took."""

    median: float
    least: float
    most: float
    n: int


def estimate(values: Iterable[float | None], *, share: bool, seed: int = BOOTSTRAP_SEED) -> Estimate | None:
    """The mean of the values that are there, or None if none is.

    Args:
        share: whether they are shares of questions. Shares get Wilson's interval where every one is 0 or 1 (where all
            are 1, a bootstrap would give an interval of no width). All else gets the percentile bootstrap's over the
            values, whatever they happen to be: a mean of nats is no rate.
        seed: of the bootstrap.
    """
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    mean = sum(numbers) / len(numbers)
    if unbounded := sum(not math.isfinite(value) for value in numbers):
        return Estimate(mean, None, None, len(numbers), "bootstrap", unbounded)
    if share and set(numbers) <= {0.0, 1.0}:
        return Estimate(mean, *wilson_interval(round(sum(numbers)), len(numbers)), len(numbers), "wilson")
    return Estimate(mean, *bootstrap_interval(numbers, seed=seed), len(numbers), "bootstrap")


def cost_range(values: Sequence[float]) -> CostRange | None:
    """Median and range, or None if there are no values."""
    return CostRange(statistics.median(values), min(values), max(values), len(values)) if values else None


def mean_share(shares: Mapping[str, float]) -> float | None:
    """One case's share over its sub-types, each of which counts alike (EasyEdit's order of averaging)."""
    return sum(shares.values()) / len(shares) if shares else None
