"""Cells of a report's tables: values with their intervals or ranges, each with its n."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from roselora.bench.metrics.estimates import CostRange, Estimate
from roselora.bench.metrics.tuning_scores import Difference
from roselora.markdown import NOTHING, Show, bounds, number, rate, text

Value = TypeVar("Value")


def optional(value: Value | None, show: Callable[[Value], str]) -> str:
    """A value as ``show`` shows it, or a dash for None."""
    return NOTHING if value is None else show(value)


def estimate_cell(value: Estimate | None, show: Show = rate) -> str:
    """Mean [interval] (n), and how many values are not finite, if some are not."""
    if value is None:
        return NOTHING
    mean = show(value.value) if math.isfinite(value.value) else number(value.value)
    odd = f", {value.non_finite} not finite" if value.non_finite else ""
    return f"{mean} {bounds(value.low, value.high, show)} ({value.n}{odd})"


def range_cell(value: CostRange | None, show: Show) -> str:
    """Median (range; n)."""
    if value is None:
        return NOTHING
    return f"{show(value.median)} ({show(value.least)} to {show(value.most)}; {value.n})"


def difference_cell(difference: Difference | None) -> str:
    """Difference [interval]."""
    return optional(difference, lambda found: f"{rate(found.value)} {bounds(found.low, found.high)}")


def capability_cell(value: Any, show: Show = rate) -> str:
    """A capability as it was recorded: a number, or a mapping with ``value`` and perhaps ``low``, ``high`` and ``n``.

    >>> capability_cell({"value": 0.25, "low": 0.2, "high": 0.3, "n": 100})
    '0.250 [0.200, 0.300] (100)'
    """
    if isinstance(value, Mapping) and "value" in value:
        shown = capability_cell(value["value"], show)
        if "low" in value and "high" in value:
            shown += f" [{capability_cell(value['low'], show)}, {capability_cell(value['high'], show)}]"
        return f"{shown} ({value['n']})" if "n" in value else shown
    if isinstance(value, int | float) and not isinstance(value, bool):
        return show(value) if math.isfinite(value) else number(value)
    return optional(value, text)
