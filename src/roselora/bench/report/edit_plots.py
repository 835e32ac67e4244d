"""The plots of an editing benchmark: reliability against locality, reliability by age, and costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roselora.bench.metrics.estimates import CostRange, Estimate
from roselora.bench.metrics.reliability_by_age import AgeBin
from roselora.bench.metrics.run_summary import RunSummary
from roselora.bench.report.plotting import footnote, legend, new_figure, styles, with_grid
from roselora.markdown import MIB, Show, count, mebibytes, seconds

BIN_STEP, BIN_WIDTH = 0.08, 0.7
"""The distance between methods side by side in a bin, and the width over which they may stand, in bins."""

LOG_FROM = 20
"""A cost is drawn on a logarithmic scale where the largest median is more than this many times the smallest."""


@dataclass(frozen=True)
class CostAxis:
    """How a cost is drawn.

    Attributes:
        name: its field.
        label: of the axis, with its unit; ``unit``: one of it, in the field's unit.
        linear_to: below this a logarithmic scale is linear, so that 0 has a place on it.
        show: shows a value of the field.
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


def plot_scores(run: RunSummary) -> Figure | None:
    """Reliability over locality, a panel per form, a point per method with both intervals; None without any point."""
    looks = styles([row.method for row in run.methods])
    points = {
        form: {
            row.method: (locality, reliability)
            for row in run.methods
            if (locality := row.forms[form].means.get("locality"))
            and (reliability := row.forms[form].means.get("reliability"))
        }
        for form in run.head.forms
    }
    if not any(points.values()):
        return None
    figure = new_figure(3 + 5.5 * len(points), 6)
    panels = figure.subplots(1, len(points), sharey=True, squeeze=False)[0]
    for axes, (form, found) in zip(panels, points.items(), strict=True):
        _draw_scores(with_grid(axes), found, looks)
        axes.set(xlabel="locality: share of unrelated answers that stay the same", title=form)
    panels[0].set_ylabel("reliability")
    figure.suptitle(f"Reliability against locality: {_title(run)}")
    legend(max(panels, key=lambda axes: len(axes.containers)), beside=panels[-1])
    absent = [row.method for row in run.methods if not all(row.method in found for found in points.values())]
    note = f" Without a point in each form, since not all was measured: {', '.join(absent)}." if absent else ""
    footnote(figure, f"Lines: 95% intervals.{note}")
    return figure


def _draw_scores(
    axes: Axes, points: Mapping[str, tuple[Estimate, Estimate]], looks: Mapping[str, dict[str, Any]]
) -> None:
    for method, (locality, reliability) in points.items():
        axes.errorbar(
            locality.value,
            reliability.value,
            xerr=_errors([locality]),
            yerr=_errors([reliability]),
            label=method,
            **looks[method],
            linestyle="",
            markersize=8,
            markeredgecolor="white",
            elinewidth=1,
            alpha=0.8,
        )


def plot_reliability_by_age(run: RunSummary) -> Figure | None:
    """Reliability by age, a panel per form, a line per method; None for a run without ages.

    Each bin is one place on the axis, since its edits have different ages; the methods stand side by side in it.
    """
    by_form = {form: found for form, found in run.reliability_by_age.items() if any(found.values())}
    if not by_form:
        return None
    looks = styles([row.method for row in run.methods])
    bins = sorted(
        {
            (each.youngest, each.oldest)
            for by_method in by_form.values()
            for found in by_method.values()
            for each in found
        }
    )
    figure = new_figure(max(8.0, 3 + 0.9 * len(bins)), 4.8 * len(by_form))
    panels = figure.subplots(len(by_form), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (form, by_method) in zip(panels, by_form.items(), strict=True):
        _draw_ages(with_grid(axes), by_method, bins, looks)
        axes.set(ylabel=f"reliability at the end, {form}", ylim=(-0.04, 1.04), xlim=(-0.5, len(bins) - 0.5))
        legend(axes)
    panels[-1].set_xticks(range(len(bins)), [f"{low} to {high}" if low < high else f"{low}" for low, high in bins])
    panels[-1].set_xlabel("edits that came after")
    figure.suptitle(f"Reliability by age of edit: {_title(run)}")
    footnote(figure, "Vertical lines: 95% intervals (Wilson). Within a range of ages, methods are side by side.")
    return figure


def _draw_ages(
    axes: Axes,
    by_method: Mapping[str, Sequence[AgeBin]],
    bins: Sequence[tuple[int, int]],
    looks: Mapping[str, dict[str, Any]],
) -> None:
    step = min(BIN_STEP, BIN_WIDTH / len(by_method))
    for place, (method, found) in enumerate(by_method.items()):
        aside = (place - (len(by_method) - 1) / 2) * step
        axes.errorbar(
            [bins.index((each.youngest, each.oldest)) + aside for each in found],
            [each.reliability.value for each in found],
            yerr=_errors([each.reliability for each in found]),
            label=method,
            **looks[method],
            markeredgecolor="white",
            markersize=7,
            linewidth=0.8,
            elinewidth=1,
            capsize=2,
        )
    axes.grid(visible=False, axis="x")
    for between in range(1, len(bins)):
        axes.axvline(between - 0.5, color="#dddddd", linewidth=0.8, zorder=0)


def plot_costs(run: RunSummary) -> Figure | None:
    """Time, memory and changed entries as medians with their ranges; None if no edit has a cost."""
    rows = [row for row in run.methods if row.costs]
    if not rows:
        return None
    looks = styles([row.method for row in run.methods])
    figure = new_figure(13, 1.6 + 0.38 * len(rows))
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for axes, cost in zip(panels, COSTS, strict=True):
        _draw_cost(axes, [looks[row.method] for row in rows], [row.costs.get(cost.name) for row in rows], cost)
    panels[0].set_yticks(range(len(rows)), [row.method for row in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)  # shared by all panels: the first method on top
    figure.suptitle(f"Cost per edit: {_title(run)}")
    counted = " Entries: counted once, after all edits." if run.head.entries else ""
    footnote(figure, f"Dots: medians; lines: from the minimum to the maximum.{counted}")
    return figure


def _draw_cost(axes: Axes, looks: Sequence[dict[str, Any]], costs: Sequence[CostRange | None], cost: CostAxis) -> None:
    """A row per method: a dot at the median, a line over the range, and the median in figures beside it."""
    with_grid(axes).margins(x=0.2)
    medians = [found.median / cost.unit for found in costs if found and found.median > 0]
    logarithmic = bool(medians) and max(medians) > LOG_FROM * min(medians) and max(medians) > cost.linear_to
    if logarithmic:
        axes.set_xscale("symlog", linthresh=cost.linear_to, linscale=0.5, subs=range(2, 10))
    for place, (look, found) in enumerate(zip(looks, costs, strict=True)):
        right, shown = 0.0, "not counted"
        if found is not None:
            low, middle, right = (part / cost.unit for part in (found.least, found.median, found.most))
            shown = cost.show(found.median)
            axes.plot([low, right], [place, place], color=look["color"], linewidth=2, alpha=0.45)
            axes.plot([middle], [place], markersize=8, **look)
        axes.annotate(shown, (right, place), (7, 0), textcoords="offset points", va="center", fontsize=9)
    if logarithmic:
        axes.set_xlim(left=-0.3 * cost.linear_to)
    axes.set_xlabel(f"{cost.label}\n(logarithmic from {cost.linear_to:g} on)" if logarithmic else cost.label)


def _title(run: RunSummary) -> str:
    """What was run; of a model's path only its own name."""
    return f"{run.head.dataset}, {Path(run.head.model).name}, {run.head.mode}"


def _errors(estimates: Sequence[Estimate]) -> list[list[float]]:
    """The distances of each value from the ends of its interval, below and above; 0 where it has none.

    Rounding may put the mean of equal values a hair outside of its interval.
    """
    below = [0.0 if one.low is None else max(0.0, one.value - one.low) for one in estimates]
    above = [0.0 if one.high is None else max(0.0, one.high - one.value) for one in estimates]
    return [below, above]
