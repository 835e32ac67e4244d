"""The plots of a fine-tuning report: the score against the entries changed, and forgetting against the score."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from roselora.bench.metrics.capability import PERPLEXITY
from roselora.bench.metrics.forgetting import ability_differences
from roselora.bench.metrics.tuning_scores import MethodScore
from roselora.bench.records.run_files import BASE
from roselora.bench.records.tuning_bench_records import Abilities
from roselora.bench.report.plotting import legend, new_figure, png, styles, with_grid


def tuning_plots(rows: Sequence[MethodScore], abilities: Sequence[Abilities]) -> dict[str, bytes]:
    """PNG by file name, without plots that would be empty."""
    scores = {row.method: row.average for row in rows if row.average is not None}
    entries = {row.method: row.entries_changed for row in rows if row.entries_changed and row.method in scores}
    losses = {
        method: one.value
        for method in scores
        for one in ability_differences(abilities, method, BASE)
        if one.figure == PERPLEXITY and method != BASE
    }
    plots = {}
    if entries:
        figure = _points({method: (changed, scores[method]) for method, changed in entries.items()}, scores.get(BASE))
        figure.axes[0].set(xscale="log", xlabel="entries of the base changed", ylabel="average score")
        figure.axes[0].set_title("Score against size")
        plots["entries.png"] = png(figure)
    if losses:
        figure = _points({method: (scores[method], loss) for method, loss in losses.items()}, 0.0)
        figure.axes[0].set(xlabel="average score", ylabel="rise of the loss on other text, nats per token")
        figure.axes[0].set_title("Forgetting against score")
        plots["forgetting.png"] = png(figure)
    return plots


def _points(points: Mapping[str, tuple[float, float]], untrained: float | None) -> Figure:
    """A point for each method, and a line for the untrained model."""
    figure, looks = new_figure(7, 4.2), styles(list(points))
    axes = with_grid(figure.subplots())
    axes.margins(0.15)
    for method, (x, y) in points.items():
        axes.plot([x], [y], linestyle="", markersize=8, label=method, **looks[method])
    if untrained is not None:
        axes.axhline(untrained, linestyle="--", color="grey", label="untrained")
    legend(axes)
    return figure
