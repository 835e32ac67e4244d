"""Numbers, intervals and tables as Markdown shows them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from roselora.evaluation.estimates import Estimate, Spread

NOTHING = "-"
MIB = 2**20


def text(value: Any) -> str:
    """Any text on one line of a table: no bar ends its cell, and nothing in it is taken for HTML."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def code(value: Any) -> str:
    """Any text as a code span on one line of a table."""
    return "`" + " ".join(str(value).split()).replace("|", "\\|") + "`"


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits, but whole numbers whole; "inf" and "NaN" by their names."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value}"
    return f"{value:,.0f}" if abs(value) >= 10**digits or value == int(value) else f"{value:.{digits}g}"


def rate(value: float) -> str:
    """A share of one, or a difference of two shares."""
    return f"{value:.3f}"


def bounds(low: float | None, high: float | None, show: Any = rate) -> str:
    """An interval, or that there is none."""
    return "[no interval]" if low is None or high is None else f"[{show(low)}, {show(high)}]"


def estimated(value: Estimate | None, show: Any = rate) -> str:
    """Mean, interval and n; how many values were not finite, where some were not."""
    if value is None:
        return NOTHING
    mean = show(value.value) if math.isfinite(value.value) else number(value.value)
    odd = f", {value.non_finite} not finite" if value.non_finite else ""
    return f"{mean} {bounds(value.low, value.high, show)} ({value.n}{odd})"


def spreaded(value: Spread | None, unit: float = 1.0) -> str:
    """Median, range and n, in so many units."""
    if value is None:
        return NOTHING
    median, least, most = (number(part / unit) for part in (value.median, value.least, value.most))
    return f"{median} ({least} to {most}; {value.n})"


def capability(value: Any) -> str:
    """A capability as it was measured: a number, or an object with ``value`` and maybe ``low``, ``high`` and ``n``."""
    if isinstance(value, Mapping) and "value" in value:
        shown = capability(value["value"])
        if "low" in value and "high" in value:
            shown += f" [{capability(value['low'])}, {capability(value['high'])}]"
        return f"{shown} ({value['n']})" if "n" in value else shown
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value, 4)
    return NOTHING if value is None else text(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; its cells must be on one line each."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
