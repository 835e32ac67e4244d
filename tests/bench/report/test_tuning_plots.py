from roselora.bench.metrics.estimates import estimate
from roselora.bench.metrics.tuning_scores import MethodScore, SetScore
from roselora.bench.records.run_files import BASE
from roselora.bench.records.tuning_bench_records import Abilities
from roselora.bench.report.tuning_plots import tuning_figures, tuning_plots
from tests.plots import assert_readable


def row(method: str, right: int, changed: int | None) -> MethodScore:
    score = estimate([1.0] * right + [0.0] * (20 - right), share=True)
    return MethodScore(
        method, {"boolq": SetScore(score, {0: right / 20}, 0.0)}, right / 20, *[changed] * 4, *[None] * 3
    )


ROWS = [row(BASE, 9, None), row("rose", 12, 166_684), row("lora", 14, 10_764_277), row("full", 15, 1_235_814_400)]


def test_the_score_stands_above_the_entries_with_its_interval() -> None:
    figures = tuning_figures(ROWS, [])
    assert list(figures) == ["entries.png"]
    above, below = figures["entries.png"].axes
    assert_readable(figures["entries.png"])
    for axes in (above, below):
        assert [label.get_text() for label in axes.get_yticklabels()] == ["rose", "lora", "full"]
    assert [note.get_text() for note in above.texts] == ["0.600", "0.700", "0.750"]
    assert [note.get_text() for note in below.texts] == ["166,684", "10,764,277", "1,235,814,400"]
    segments = above.containers[0].lines[2][0].get_segments()
    assert all(low[0] < high[0] for low, high in segments)


def test_forgetting_stands_below_the_score() -> None:
    outcomes = {BASE: (2.0, 3.0), "rose": (2.25, 3.5), "lora": (3.0, 4.5)}
    abilities = [Abilities(method, 0, 2, {"perplexity": losses}) for method, losses in outcomes.items()]
    figure = tuning_figures(ROWS, abilities)["forgetting.png"]
    assert_readable(figure)
    assert [note.get_text() for note in figure.axes[1].texts] == ["0.375", "1.250"]


def test_the_plots_are_png() -> None:
    assert all(picture.startswith(b"\x89PNG") for picture in tuning_plots(ROWS, []).values())
