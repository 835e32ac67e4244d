"""The plots of a fine-tuning report: the score beside the entries changed, and beside forgetting; methods are rows."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from roselora.bench.metrics.capability import PERPLEXITY
from roselora.bench.metrics.forgetting import ability_differences
from roselora.bench.metrics.tuning_scores import MethodScore
from roselora.bench.records.run_files import BASE
from roselora.bench.records.tuning_bench_records import Abilities
from roselora.markdown import count, rate
from roselora.training.plotting import GREY, Mark, draw_rows, explain, headline, new_figure, plain, png, with_grid


def tuning_plots(rows: Sequence[MethodScore], abilities: Sequence[Abilities]) -> dict[str, bytes]:
    """PNG by file name, without plots that would be empty."""
    return {name: png(figure) for name, figure in tuning_figures(rows, abilities).items()}


def tuning_figures(rows: Sequence[MethodScore], abilities: Sequence[Abilities]) -> dict[str, Figure]:
    """The plots by their files' names."""
    scores = {row.method: score for row in rows if (score := _score(row)) is not None}
    entries = {row.method: row.entries_changed for row in rows if row.entries_changed and row.method in scores}
    losses = {
        method: Mark(one.value, one.low, one.high)
        for method in scores
        for one in ability_differences(abilities, method, BASE)
        if one.figure == PERPLEXITY and method != BASE
    }
    figures = {}
    if entries:
        figure = _figure(scores, list(entries), "Score and size")
        below = with_grid(figure.axes[1])
        below.set(xscale="log", xlabel="entries of the base changed")
        marks = [Mark(changed, changed, changed) for changed in entries.values()]
        draw_rows(below, list(entries), {"entries": marks}, [count(changed) for changed in entries.values()])
        below.margins(x=0.1)
        below.xaxis.set_major_formatter(plain)
        below.xaxis.set_minor_formatter(lambda value, place: "")
        figures["entries.png"] = figure
    if losses:
        figure = _figure(scores, list(losses), "Score and forgetting")
        below = with_grid(figure.axes[1])
        below.set_xlabel("rise of the loss on other text, nats per token")
        below.axvline(0, linestyle="--", color=GREY)
        draw_rows(below, list(losses), {"loss": list(losses.values())}, [rate(loss.value) for loss in losses.values()])
        figures["forgetting.png"] = figure
    return figures


def _score(row: MethodScore) -> Mark | None:
    """The average; it has an interval only where it is of a single set."""
    if row.average is None:
        return None
    only = next(iter(row.sets.values())).score if len(row.sets) == 1 else None
    if only is None or only.low is None or only.high is None:
        return Mark(row.average, row.average, row.average)
    return Mark(row.average, only.low, only.high)


def _figure(scores: Mapping[str, Mark], methods: Sequence[str], title: str) -> Figure:
    """Two panels, the upper one with the scores, and with a line for the untrained model's if it has one."""
    figure = new_figure(2.2 + 0.6 * len(methods))
    above, _ = figure.subplots(2, 1)
    shown = [scores[method] for method in methods]
    draw_rows(with_grid(above), methods, {"score": shown}, [rate(score.value) for score in shown])
    above.set_xlabel("average score")
    note = "Lines: 95% intervals over questions." if any(score.low < score.high for score in shown) else ""
    if BASE in scores:
        above.axvline(scores[BASE].value, linestyle="--", color=GREY)
        note = f"{note} Dashed: the untrained model.".strip()
    headline(figure, title)
    if note:
        explain(figure, note)
    return figure
