"""The pictures of a fine-tuning report: the score against the entries changed, and forgetting against the score."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roselora.bench.metrics.capability import PERPLEXITY
from roselora.bench.metrics.forgetting import ability_differences
from roselora.bench.metrics.tuning_scores import MethodScore
from roselora.bench.records.run_files import BASE
from roselora.bench.records.tuning_bench_records import Abilities
from roselora.bench.report.plot_labels import Point, label_points

Points = Mapping[str, tuple[float, float]]
"""By method its point in the axes' units."""


def tuning_plots(rows: Sequence[MethodScore], abilities: Sequence[Abilities]) -> dict[str, bytes]:
    """By file name, each picture that there is something to draw in."""
    scored = [row for row in rows if row.average is not None]
    plots = {}
    if any(row.entries_changed for row in scored):
        plots["entries.png"] = _drawn(lambda axes: _entries(axes, scored))
    forgot = {
        one.method: one
        for row in scored
        for one in ability_differences(abilities, row.method, BASE)
        if one.figure == PERPLEXITY and row.method != BASE
    }
    if forgot:
        plots["forgetting.png"] = _drawn(
            lambda axes: _forgetting(axes, scored, {method: one.value for method, one in forgot.items()})
        )
    return plots


def _entries(axes: Axes, rows: Sequence[MethodScore]) -> Points:
    axes.set(xscale="log", xlabel="entries of the base changed", ylabel="average score", title="Score against size")
    for row in rows:
        if row.method == BASE and row.average is not None:
            axes.axhline(row.average, linestyle="--", color="grey", label="untrained")
            axes.legend()
    return {
        row.method: (row.entries_changed, row.average)
        for row in rows
        if row.entries_changed and row.average is not None
    }


def _forgetting(axes: Axes, rows: Sequence[MethodScore], forgot: Mapping[str, float]) -> Points:
    axes.set(
        xlabel="average score", ylabel="rise of the loss on other text, nats a token", title="Forgetting against score"
    )
    axes.axhline(0, linestyle="--", color="grey")
    return {
        row.method: (row.average, forgot[row.method])
        for row in rows
        if row.method in forgot and row.average is not None
    }


def _drawn(draw: Callable[[Axes], Points]) -> bytes:
    """A picture of points, each with its name beside it."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.margins(0.15)
    points = {}
    for number, (method, (x, y)) in enumerate(draw(axes).items()):
        points[method] = Point(x, y, (x, x), (y, y), f"C{number}")
        axes.plot([x], [y], marker="o", linestyle="", color=f"C{number}")
    label_points(axes, canvas, points)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()
