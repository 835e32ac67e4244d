"""Estimates with their intervals, and costs with their ranges, as Markdown shows them."""

import math
from collections.abc import Mapping
from typing import Any

from roselora.bench.metrics.estimates import CostRange, Estimate
from roselora.markdown import NOTHING, Show, bounds, number, rate, text


def estimated(value: Estimate | None, show: Show = rate) -> str:
    """Mean, interval and n; how many values were not finite, where some were not."""
    if value is None:
        return NOTHING
    mean = show(value.value) if math.isfinite(value.value) else number(value.value)
    odd = f", {value.non_finite} not finite" if value.non_finite else ""
    return f"{mean} {bounds(value.low, value.high, show)} ({value.n}{odd})"


def spreaded(value: CostRange | None, show: Show) -> str:
    """Median, range and n."""
    if value is None:
        return NOTHING
    return f"{show(value.median)} ({show(value.least)} to {show(value.most)}; {value.n})"


def capability(value: Any, show: Show = rate) -> str:
    """A capability as it was measured: a number, or an object with ``value`` and maybe ``low``, ``high`` and ``n``."""
    if isinstance(value, Mapping) and "value" in value:
        shown = capability(value["value"], show)
        if "low" in value and "high" in value:
            shown += f" [{capability(value['low'], show)}, {capability(value['high'], show)}]"
        return f"{shown} ({value['n']})" if "n" in value else shown
    if isinstance(value, int | float) and not isinstance(value, bool):
        return show(value) if math.isfinite(value) else number(value)
    return NOTHING if value is None else text(value)
