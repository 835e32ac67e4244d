"""The pictures of an editing benchmark, as PNG: what it gains and what it moves, how it lasts, what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from roselora.evaluation.estimates import Estimate, Spread
from roselora.evaluation.run_summary import RunSummary
from roselora.reports.labels import Point, label_points
from roselora.reports.numbers import MIB, number

# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow, which is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^")

LOG_FROM = 20
"""Bars are drawn on a logarithmic scale where the largest is so many times the smallest."""


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


def plot_retention(run: RunSummary) -> bytes | None:
    """Reliability by age, one line a method, or None for a run without ages."""
    if not any(run.retention.values()):
        return None
    looks = styles([row.method for row in run.methods])
    figure, axes = _figure(8, 4.8)
    width = max(each.oldest - each.youngest + 1 for found in run.retention.values() for each in found)
    for place, (method, found) in enumerate(run.retention.items()):
        # Set side by side, for intervals drawn over each other cannot be read.
        aside = (place - (len(run.retention) - 1) / 2) * 0.5 * width / len(run.retention)
        axes.errorbar(
            [(each.youngest + each.oldest) / 2 + aside for each in found],
            [each.reliability.value for each in found],
            yerr=[
                [each.reliability.value - _ends(each.reliability)[0] for each in found],
                [_ends(each.reliability)[1] - each.reliability.value for each in found],
            ],
            color=looks[method].colour,
            marker=looks[method].marker,
            markeredgecolor="white",
            markersize=7,
            elinewidth=1,
            capsize=2,
            label=method,
        )
    axes.set(xlabel="edits that came after", ylabel="reliability at the end", ylim=(-0.04, 1.04), xlim=(0, run.head.n))
    axes.set_title(f"Retention by age of edit: {_what(run)}")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    _foot(figure, "Lines up and down: 95% intervals (Wilson). Points of one bin are set side by side.")
    return _png(figure)


def plot_costs(run: RunSummary) -> bytes | None:
    """Seconds and peak memory of an edit as bars from the median, with the range, or None if no edit has a cost."""
    rows = [row for row in run.methods if row.costs]
    if not rows:
        return None
    looks = styles([row.method for row in run.methods])
    figure = Figure(figsize=(10, 1.6 + 0.38 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    names = [row.method for row in rows]
    colours = [looks[name].colour for name in names]
    _bars(left, names, colours, [row.costs["seconds"] for row in rows], 1.0, "seconds per edit")
    _bars(right, names, colours, [row.costs["peak_bytes"] for row in rows], MIB, "peak memory beyond the model, MiB")
    left.invert_yaxis()  # shared: the first method on top in both
    figure.suptitle(f"Cost per edit: {_what(run)}")
    _foot(figure, "Bars: median; lines: from the least to the most.")
    return _png(figure)


def _bars(
    axes: Axes, names: Sequence[str], colours: Sequence[str], costs: Sequence[Spread], unit: float, label: str
) -> None:
    middles = [cost.median / unit for cost in costs]
    most = max(cost.most / unit for cost in costs)
    positive = [middle for middle in middles if middle > 0]
    logarithmic = bool(positive) and max(positive) > LOG_FROM * min(positive)
    if logarithmic:
        # Room for the least of the ranges too, but a cost of next to nothing must not stretch the scale.
        floor = min(positive) / 2
        axes.set_xscale("log")
        axes.set_xlim(floor, most * (most / floor) ** 0.18)
    elif most > 0:
        floor = 0.0
        axes.set_xlim(0, most * 1.25)
    else:
        floor = 0.0
    axes.barh(names, [max(middle, floor) for middle in middles], color=colours, height=0.62)
    outline = [withStroke(linewidth=2.6, foreground="white")]
    for place, (cost, middle) in enumerate(zip(costs, middles, strict=True)):
        ends = [max(end / unit, floor) for end in (cost.least, cost.most)]
        axes.plot(ends, [place, place], color="#222222", linewidth=1.2, path_effects=outline)
        axes.annotate(
            number(middle),
            (ends[1], place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_xlabel(f"{label}, logarithmic" if logarithmic else label)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


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
