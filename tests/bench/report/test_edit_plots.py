from dataclasses import replace
from typing import Any

import pytest

from roselora.bench.metrics.run_summary import summarize_run
from roselora.bench.records.edit_bench_records import Cost
from roselora.bench.report.edit_plots import plot_costs, plot_reliability_by_age, plot_scores
from tests.bench.report.edit_runs import HEAD, record


@pytest.mark.parametrize("many", [True, False])
def test_the_names_stand_beside_the_axes_where_they_cover_no_point(many: bool) -> None:
    names = [f"method-{place}" for place in range(12 if many else 1)]
    records = [record(case, name, 1.0, 0.9 + place / 200) for place, name in enumerate(names) for case in range(3)]
    figure: Any = plot_scores(summarize_run(replace(HEAD, methods={}), records))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert [label.get_text() for label in legend.get_texts()] == names
    box = legend.get_window_extent()
    assert axes.get_window_extent().x1 < box.x0 < box.x1 <= figure.bbox.x1
    assert 0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_reliability_by_age_is_drawn_in_the_bin_of_its_ages() -> None:
    records = [record(position, method, 1.0, 1.0) for method in ("no-edit", "lora", "rose") for position in range(35)]
    figure: Any = plot_reliability_by_age(summarize_run(replace(HEAD, mode="sequential", n=35), records))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0 to 10", "11 to 22", "23 to 34"]
    places = [container.lines[0].get_xdata() for container in axes.containers]
    assert len(places) == 3
    for place in places:
        assert [round(x) for x in place] == [0, 1, 2]
    assert len({float(x) for place in places for x in place}) == 9  # none stands on another


def test_costs_of_zero_are_drawn_at_zero_and_every_range_is_inside_the_axes() -> None:
    seconds_of = {"no-edit": (0.00004, 0), "lora": (4.0, 3 * 2**20), "rose": (90.0, 400 * 2**20)}
    records = [
        replace(record(case, method, 1.0, 1.0), cost=Cost(taken * (1 + case), most * case, None, 1))
        for method, (taken, most) in seconds_of.items()
        for case in range(3)
    ]
    figure: Any = plot_costs(summarize_run(HEAD, records))
    figure.draw_without_rendering()
    time, memory, entries = figure.axes
    for axes in (time, memory):
        assert axes.get_xscale() == "symlog"
        left, right = axes.get_xlim()
        drawn = [float(x) for line in axes.get_lines() for x in line.get_xdata()]
        assert left < min(drawn) <= max(drawn) < right
    ranges = [list(line.get_xdata()) for line in memory.get_lines()[::2]]
    assert ranges == [[0, 0], [0, 6], [0, 800]]  # MiB
    assert [note.get_text() for note in time.texts] == ["0.00", "8.00", "180"]
    assert [note.get_text() for note in entries.texts] == ["not counted"] * 3


def test_costs_that_are_close_to_each_other_are_drawn_on_a_linear_scale() -> None:
    records = [record(case, method, 1.0, 1.0) for method in ("lora", "rose") for case in range(3)]
    figure: Any = plot_costs(summarize_run(HEAD, records))
    assert [axes.get_xscale() for axes in figure.axes] == ["linear"] * 3
