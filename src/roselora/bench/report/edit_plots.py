"""The pictures of an editing benchmark, as PNG: what it gains and what it moves, how it lasts, what it costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roselora.bench.metrics.estimates import CostRange, Estimate
from roselora.bench.metrics.run_summary import RunSummary
from roselora.bench.report.plot_labels import Point, label_points
from roselora.markdown import MIB, Show, count, mebibytes, seconds

# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow, which is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^")

ASIDE = 0.08
"""How far a method stands beside the one before it, where two bins are 1 apart."""

BIN_WIDTH = 0.7
"""The share of a bin's place over which its methods may be spread."""

LOG_FROM = 20
"""Costs are drawn on a logarithmic scale where the largest is so many times the smallest."""


@dataclass(frozen=True)
class CostAxis:
    """How a cost is drawn.

    Attributes:
        name: its field.
        label: the axis's, with its unit; ``unit``: what a value is divided by to be in it.
        linear_to: what is below this need not be told apart, so that next to nothing does not stretch the scale.
        show: a value in figures.
    """

    name: str
    label: str
    unit: float
    linear_to: float
    show: Show


COSTS = (
    CostAxis("seconds", "seconds per edit", 1.0, 0.01, seconds),
    CostAxis("peak_bytes", "peak memory beyond the model, MiB", MIB, 1.0, mebibytes),
    CostAxis("entries", "entries changed", 1.0, 100.0, count),
)


@dataclass(frozen=True)
class Style:
    """How a method looks in every picture: the colours repeat after seven methods, with another marker."""

    colour: str
    marker: str


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """A look for each method, by its place."""
    return {
        method: Style(COLOURS[place % len(COLOURS)], MARKERS[place // len(COLOURS) % len(MARKERS)])
        for place, method in enumerate(methods)
    }


def plot_scores(run: RunSummary) -> bytes | None:
    """Reliability over locality, one point a method with both intervals, or None if no method has both."""
    looks = styles([row.method for row in run.methods])
    points = {
        row.method: Point(
            row.locality.value,
            row.reliability.value,
            _ends(row.locality),
            _ends(row.reliability),
            looks[row.method].colour,
        )
        for row in run.methods
        if row.locality and row.reliability
    }
    if not points:
        return None
    figure, axes = _figure(7.5, 6)
    axes.set(xlim=_limits([end for point in points.values() for end in point.across]))
    axes.set(ylim=_limits([end for point in points.values() for end in point.upright]))
    axes.set(xlabel="locality: share of answers elsewhere that did not move", ylabel="reliability")
    axes.set_title(f"Reliability against locality: {_what(run)}")
    for method, point in points.items():
        axes.plot(point.across, [point.y] * 2, color=point.colour, linewidth=1.2, alpha=0.45)
        axes.plot([point.x] * 2, point.upright, color=point.colour, linewidth=1.2, alpha=0.45)
        axes.plot([point.x], [point.y], looks[method].marker, color=point.colour, markersize=8, markeredgecolor="white")
    absent = [row.method for row in run.methods if row.method not in points]
    note = f" No point, for not both were measured: {', '.join(absent)}." if absent else ""
    _foot(figure, f"Lines: 95% intervals.{note}")
    label_points(axes, FigureCanvasAgg(figure), points)
    return _png(figure)


def plot_reliability_by_age(run: RunSummary) -> bytes | None:
    """Reliability by age, one line a method, or None for a run without ages.

    Each bin is one place on the axis, for what is in it has no one age; the methods of a bin stand side by side.
    """
    if not any(run.reliability_by_age.values()):
        return None
    looks = styles([row.method for row in run.methods])
    bins = sorted({(each.youngest, each.oldest) for found in run.reliability_by_age.values() for each in found})
    step = min(ASIDE, BIN_WIDTH / len(run.reliability_by_age))
    figure, axes = _figure(max(8.0, 3 + 0.9 * len(bins)), 4.8)
    for place, (method, found) in enumerate(run.reliability_by_age.items()):
        # Set side by side, for intervals drawn over each other cannot be read.
        aside = (place - (len(run.reliability_by_age) - 1) / 2) * step
        ends = [_ends(each.reliability) for each in found]
        axes.errorbar(
            [bins.index((each.youngest, each.oldest)) + aside for each in found],
            [each.reliability.value for each in found],
            yerr=[
                [each.reliability.value - low for each, (low, _) in zip(found, ends, strict=True)],
                [high - each.reliability.value for each, (_, high) in zip(found, ends, strict=True)],
            ],
            color=looks[method].colour,
            marker=looks[method].marker,
            markeredgecolor="white",
            markersize=7,
            linewidth=0.8,
            alpha=0.9,
            elinewidth=1,
            capsize=2,
            label=method,
        )
    axes.set_xticks(range(len(bins)), [f"{low} to {high}" if low < high else f"{low}" for low, high in bins])
    axes.tick_params(axis="x", length=0, labelsize=9)
    axes.grid(visible=False, axis="x")
    for between in range(1, len(bins)):
        axes.axvline(between - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set(xlabel="edits that came after", ylabel="reliability at the end", ylim=(-0.04, 1.04))
    axes.set(xlim=(-0.5, len(bins) - 0.5))
    axes.set_title(f"Reliability by age of edit: {_what(run)}")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    _foot(figure, "Lines up and down: 95% intervals (Wilson). Methods of one range of ages stand side by side.")
    return _png(figure)


def plot_costs(run: RunSummary) -> bytes | None:
    """Time, memory and changed entries as medians with their ranges, or None if no edit has a cost."""
    rows = [row for row in run.methods if row.costs]
    if not rows:
        return None
    looks = styles([row.method for row in run.methods])
    figure = Figure(figsize=(13, 1.6 + 0.38 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for axes, cost in zip(panels, COSTS, strict=True):
        _dots(axes, [looks[row.method] for row in rows], [row.costs.get(cost.name) for row in rows], cost)
    panels[0].set_yticks(range(len(rows)), [row.method for row in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)  # shared: the first method on top in all
    figure.suptitle(f"Cost per edit: {_what(run)}")
    counted = " Entries: counted once, after all edits." if run.head.entries else ""
    _foot(figure, f"Dots: medians; lines: from the least to the most.{counted}")
    return _png(figure)


def _dots(axes: Axes, looks: Sequence[Style], costs: Sequence[CostRange | None], cost: CostAxis) -> None:
    """One row a method: a dot at the median, a line over the range, and the median in figures beside it."""
    found = [(place, each) for place, each in enumerate(costs) if each is not None]
    most = max((each.most / cost.unit for _, each in found), default=0.0)
    linear_to = linear_up_to([each.median / cost.unit for _, each in found], cost.linear_to)
    if linear_to is not None:
        # Linear from 0 to there and logarithmic beyond, so that a 0 has its place and no line runs out of the picture.
        axes.set_xscale("symlog", linthresh=linear_to, linscale=0.5, subs=range(2, 10))
        axes.set_xlim(-0.3 * linear_to, most * (most / linear_to) ** 0.3 * 2)
    else:
        axes.set_xlim(-0.03 * (most or 1), 1.3 * (most or 1))
    for place, each in found:
        low, middle, high = (part / cost.unit for part in (each.least, each.median, each.most))
        axes.plot(
            [low, high], [place, place], color=looks[place].colour, linewidth=2, alpha=0.45, solid_capstyle="butt"
        )
        axes.plot([middle], [place], looks[place].marker, color=looks[place].colour, markersize=8, clip_on=False)
        axes.annotate(
            cost.show(each.median),
            (high, place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    for place in {*range(len(costs))} - {place for place, _ in found}:
        axes.annotate("not counted", (0, place), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9)
    turn = "" if linear_to is None else f"\n(logarithmic from {linear_to:,.15g} on)"
    axes.set_xlabel(f"{cost.label}{turn}")
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def linear_up_to(medians: Sequence[float], least: float) -> float | None:
    """Where a cost's axis turns logarithmic, a power of ten no smaller than ``least``; None where it need not."""
    positive = [middle for middle in medians if middle > 0]
    if not positive or max(positive) <= LOG_FROM * min(positive):
        return None
    turn = max(least, float(10 ** math.floor(math.log10(min(positive)))))
    return turn if turn < max(positive) else None


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _what(run: RunSummary) -> str:
    """What was run, in a title's few words: of a model's path, only its own name."""
    return f"{run.head.dataset}, {Path(run.head.model).name}, {run.head.mode}"


def _ends(value: Estimate) -> tuple[float, float]:
    """Where the interval ends; at the value itself where there is none."""
    low, high = (value.value if end is None else end for end in (value.low, value.high))
    # Rounding may put the mean of equal values a hair outside.
    return min(low, value.value), max(high, value.value)


def _limits(ends: Sequence[float]) -> tuple[float, float]:
    """From a little below the least to a little above the most, of 0 to 1: a crowd in one corner needs the room."""
    margin = 0.08 * max(0.25, max(ends) - min(ends))
    return max(-0.06, min(ends) - 2 * margin), min(1.06, max(ends) + margin)


def _foot(figure: Figure, note: str) -> None:
    figure.supxlabel(note, fontsize=8.5, color="#444444", x=0.01, ha="left", wrap=True)


def _png(figure: Figure) -> bytes:
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()
