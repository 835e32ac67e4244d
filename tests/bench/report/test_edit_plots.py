from dataclasses import replace
from typing import Any

import pytest

from roselora.bench.metrics.run_summary import summarize_run
from roselora.bench.records.edit_bench_records import Cost, EditRecord
from roselora.bench.report.edit_plots import plot_costs, plot_reliability_by_age, plot_scores
from tests.bench.report.edit_runs import HEAD, failed, record
from tests.plots import assert_readable

BOTH = replace(HEAD, methods={}, forms=("bare", "chat"))


def in_both_forms(case: int, method: str, reliability: float, locality: float) -> EditRecord:
    bare = record(case, method, reliability, locality)
    return replace(bare, chat=bare.scores)


@pytest.mark.parametrize("many", [True, False])
def test_scores_have_a_row_per_method_and_a_panel_per_form(many: bool) -> None:
    names = [f"method-{place}" for place in range(12 if many else 1)]
    records = [in_both_forms(case, name, 1.0, 0.9 + k / 200) for k, name in enumerate(names) for case in range(3)]
    figure: Any = plot_scores(summarize_run(BOTH, records))
    assert_readable(figure)
    assert [axes.get_title("left") for axes in figure.axes] == ["bare", "chat"]
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_yticklabels()] == names
        reliability, locality = (container.lines[0] for container in axes.containers)
        assert list(reliability.get_xdata()) == [1.0] * len(names)
        assert list(locality.get_xdata()) == pytest.approx([0.9 + k / 200 for k in range(len(names))])
        assert axes.yaxis_inverted()  # the first on top


def test_what_was_not_measured_is_named_in_its_row() -> None:
    records = [record(case, "lora", 1.0, 1.0) for case in range(3)] + failed("rose")
    figure: Any = plot_scores(summarize_run(BOTH, records))
    assert_readable(figure)
    bare, chat = figure.axes
    assert [note.get_text() for note in bare.texts] == ["locality: not measured"]
    notes = ["reliability and locality: not measured", "locality: not measured"]
    assert [note.get_text() for note in chat.texts] == notes


def test_reliability_by_age_is_drawn_in_the_bin_of_its_ages() -> None:
    methods = ("no-edit", "lora", "rose")
    records = [in_both_forms(position, method, 1.0, 1.0) for method in methods for position in range(35)]
    figure: Any = plot_reliability_by_age(summarize_run(replace(BOTH, mode="sequential", n=35), records))
    assert_readable(figure)
    assert [axes.get_title("left") for axes in figure.axes] == list(methods)
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["0", "11", "23"]
    for axes in figure.axes:
        places = [container.lines[0].get_xdata() for container in axes.containers]
        assert len(places) == 2
        for place in places:
            assert [round(x) for x in place] == [0, 1, 2]
        assert len({float(x) for place in places for x in place}) == 6  # none stands on another


def test_the_ages_of_a_long_run_can_be_read() -> None:
    records = [record(position, "rose-published", position % 2, 1.0) for position in range(1000)]
    figure: Any = plot_reliability_by_age(summarize_run(replace(HEAD, mode="sequential", n=1000), records))
    assert_readable(figure)


def test_costs_of_zero_are_drawn_at_zero_and_every_range_is_inside_the_axes() -> None:
    seconds_of = {"no-edit": (0.00004, 0), "lora": (4.0, 3 * 2**20), "rose": (90.0, 400 * 2**20)}
    records = [
        replace(record(case, method, 1.0, 1.0), cost=Cost(taken * (1 + case), most * case, None, 1))
        for method, (taken, most) in seconds_of.items()
        for case in range(3)
    ]
    figure: Any = plot_costs(summarize_run(HEAD, records))
    assert_readable(figure)
    time, memory, entries = figure.axes
    for axes in (time, memory):
        assert axes.get_xscale() == "symlog"
        left, right = axes.get_xlim()
        drawn = [x for low, high in ranges(axes) for x in (low, high)]
        assert left < min(drawn) <= max(drawn) < right
    assert ranges(memory) == [(0, 0), (0, 6), (0, 800)]  # MiB
    assert [note.get_text() for note in time.texts] == ["0.00", "8.00", "180"]
    assert [note.get_text() for note in entries.texts] == ["not counted"] * 3


def ranges(axes: Any) -> list[tuple[float, float]]:
    """The ends of each row's line."""
    (container,) = axes.containers
    return [(float(low), float(high)) for (low, _), (high, _) in container.lines[2][0].get_segments()]


def test_costs_that_are_close_to_each_other_are_drawn_on_a_linear_scale_from_zero() -> None:
    records = [record(case, method, 1.0, 1.0) for method in ("lora", "rose") for case in range(3)]
    figure: Any = plot_costs(summarize_run(HEAD, records))
    assert_readable(figure)
    assert [axes.get_xscale() for axes in figure.axes] == ["linear"] * 3
    for axes in figure.axes:
        left, right = axes.get_xlim()
        assert -0.1 * right < left < 0


def test_costs_over_many_orders_of_magnitude_can_be_read() -> None:
    records = [
        replace(record(case, f"method-{place}", 1.0, 1.0), cost=Cost(10.0**place / 100, 2 ** (6 * place), 9**place, 1))
        for place in range(9)
        for case in range(3)
    ]
    figure: Any = plot_costs(summarize_run(replace(HEAD, methods={}), records))
    assert_readable(figure)
