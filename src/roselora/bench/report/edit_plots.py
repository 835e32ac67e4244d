"""The plots of an editing benchmark: reliability and locality, reliability by age, and costs; methods are rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roselora.bench.metrics.estimates import CostRange, Estimate
from roselora.bench.metrics.reliability_by_age import AgeBin
from roselora.bench.metrics.run_summary import RunSummary
from roselora.markdown import MIB, Show, count, mebibytes, seconds
from roselora.training.plotting import (
    GREY,
    LOOKS,
    TEXT,
    Mark,
    aside,
    draw_rows,
    explain,
    headline,
    new_figure,
    plain,
    spread,
    with_grid,
)

SHARES = {"reliability": "reliability", "locality": "locality: unrelated answers that stay the same"}

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
    """Reliability and locality with their intervals, a panel per form, a row per method; None without any."""
    forms = run.head.forms
    rows = [row for row in run.methods if any(row.forms[form].means.get(name) for form in forms for name in SHARES)]
    if not rows:
        return None
    figure = new_figure(1.4 + len(forms) * (0.6 + 0.42 * len(rows)))
    panels = figure.subplots(len(forms), 1, sharex=True, squeeze=False)[:, 0]
    for axes, form in zip(panels, forms, strict=True):
        series = {label: [_mark(row.forms[form].means.get(name)) for row in rows] for name, label in SHARES.items()}
        draw_rows(with_grid(axes), [row.method for row in rows], series)
        for place, row in enumerate(rows):
            absent = [name for name in SHARES if row.forms[form].means.get(name) is None]
            if absent:
                note = f"{' and '.join(absent)}: not measured"
                # Where its mark would be; in the middle if both are absent.
                below = aside(list(SHARES).index(absent[0]), len(SHARES)) if len(absent) == 1 else 0.0
                axes.text(0.5, place + below, note, va="center", ha="center", color=GREY)
        axes.set(xlim=(-0.04, 1.04))
        axes.set_title(form, loc="left", fontsize=TEXT)
    panels[-1].set_xlabel("share")
    headline(figure, "Reliability and locality", _ran(run))
    explain(figure, "Lines: 95% intervals.", panels[0])
    return figure


def plot_reliability_by_age(run: RunSummary) -> Figure | None:
    """Reliability by age, a panel per method, a line per form; None for a run without ages.

    Each bin is one place on the axis, since its edits have different ages.
    """
    by_form = {form: found for form, found in run.reliability_by_age.items() if any(found.values())}
    if not by_form:
        return None
    methods = list(dict.fromkeys(method for found in by_form.values() for method in found))
    bins = sorted(
        {
            (each.youngest, each.oldest)
            for by_method in by_form.values()
            for found in by_method.values()
            for each in found
        }
    )
    figure = new_figure(1.6 + 1.35 * len(methods))
    panels = figure.subplots(len(methods), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, method in zip(panels, methods, strict=True):
        _draw_ages(with_grid(axes), {form: found.get(method, ()) for form, found in by_form.items()}, bins)
        axes.set_title(method, loc="left", fontsize=TEXT)
    panels[-1].set(ylim=(-0.06, 1.06), xlim=(-0.5, len(bins) - 0.5), xlabel="edits that came after")
    panels[-1].set_xticks([place - 0.5 for place in range(len(bins))], [f"{youngest}" for youngest, _ in bins])
    figure.supylabel("reliability at the end", fontsize=TEXT)
    headline(figure, "Reliability by age of edit", _ran(run))
    note = (
        f"Vertical lines: 95% intervals (Wilson). Each range of ages is named by its first; the last is {bins[-1][1]}."
    )
    explain(figure, note, panels[0])
    return figure


def _draw_ages(axes: Axes, by_form: Mapping[str, Sequence[AgeBin]], bins: Sequence[tuple[int, int]]) -> None:
    """Each form's line; where there are two, they stand side by side in a bin."""
    for place, (form, found) in enumerate(by_form.items()):
        aside = 0.2 * (place - (len(by_form) - 1) / 2)
        marks = [mark for each in found if (mark := _mark(each.reliability))]
        axes.errorbar(
            [bins.index((each.youngest, each.oldest)) + aside for each in found],
            [mark.value for mark in marks],
            yerr=spread(marks),
            label=form,
            **LOOKS[place],
            elinewidth=1,
            capsize=2,
        )


def plot_costs(run: RunSummary) -> Figure | None:
    """Time, memory and changed entries as medians with their ranges; None if no edit has a cost."""
    rows = [row for row in run.methods if row.costs]
    if not rows:
        return None
    figure = new_figure(1.2 + len(COSTS) * (0.75 + 0.3 * len(rows)))
    for axes, cost in zip(figure.subplots(len(COSTS), 1), COSTS, strict=True):
        _draw_cost(with_grid(axes), [row.method for row in rows], [row.costs.get(cost.name) for row in rows], cost)
    headline(figure, "Cost per edit", _ran(run))
    counted = " Entries: counted once, after all edits." if run.head.entries else ""
    explain(figure, f"Dots, and figures on the right: medians; lines: from the minimum to the maximum.{counted}")
    return figure


def _draw_cost(axes: Axes, methods: Sequence[str], costs: Sequence[CostRange | None], cost: CostAxis) -> None:
    """A row per method: a dot at the median, a line over the range, and the median in figures on the right."""
    marks = [
        Mark(found.median / cost.unit, found.least / cost.unit, found.most / cost.unit) if found else None
        for found in costs
    ]
    medians = [mark.value for mark in marks if mark and mark.value > 0]
    logarithmic = bool(medians) and max(medians) > LOG_FROM * min(medians) and max(medians) > cost.linear_to
    if logarithmic:
        axes.set_xscale("symlog", linthresh=cost.linear_to, subs=range(2, 10))
    shown = [cost.show(found.median) if found else "not counted" for found in costs]
    draw_rows(axes, methods, {cost.name: marks}, shown)
    axes.margins(x=0.08)
    if logarithmic:
        axes.set(xlim=(-0.3 * cost.linear_to, None), xlabel=f"{cost.label}\n(logarithmic from {cost.linear_to:g} on)")
        axes.locator_params(axis="x", numticks=4)
    else:
        axes.set(xlim=(-0.04 * axes.get_xlim()[1], None), xlabel=cost.label)
        axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(plain)


def _ran(run: RunSummary) -> str:
    """What was run; of a model's path only its own name."""
    return f"{run.head.dataset}, {Path(run.head.model).name}, {run.head.mode}"


def _mark(found: Estimate | None) -> Mark | None:
    if found is None:
        return None
    return Mark(
        found.value,
        found.value if found.low is None else found.low,
        found.value if found.high is None else found.high,
    )
