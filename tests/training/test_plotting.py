"""What the checks of plots refuse."""

import pytest
from matplotlib.figure import Figure

from roselora.training.plotting import LOOKS, Mark, draw_rows, explain, headline, new_figure, with_grid
from tests.plots import assert_readable


def rows(label: str = "second") -> Figure:
    figure = new_figure(6)
    marks = [Mark(0.5, 0.4, 0.6), None]
    draw_rows(with_grid(figure.subplots()), ["one", "two"], {"first": marks, label: marks}, ["0.5", "not counted"])
    headline(figure, "a title " * 20, "and what was run " * 20)
    explain(figure, "a note that takes several lines " * 5, figure.axes[0])
    return figure


def test_long_titles_notes_and_labels_are_wrapped() -> None:
    assert_readable(rows("a label that is much longer than the figure is wide " * 2))


def test_series_that_differ_by_colour_alone_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roselora.training.plotting.LOOKS", (LOOKS[0], {**LOOKS[0], "color": "red"}))
    with pytest.raises(AssertionError):
        assert_readable(rows())


@pytest.mark.parametrize(("place", "size"), [((0.5, 0.5), 8.0), ((0.95, 0.5), 10.0)])
def test_text_that_is_small_or_cut_off_is_refused(place: tuple[float, float], size: float) -> None:
    figure = new_figure(3)
    figure.text(*place, "some text", fontsize=size)
    with pytest.raises(AssertionError):
        assert_readable(figure)


def test_text_on_text_and_small_exponents_are_refused() -> None:
    figure = new_figure(3)
    figure.text(0.5, 0.5, "some")
    assert_readable(figure)
    figure.text(0.52, 0.5, "other")
    with pytest.raises(AssertionError):
        assert_readable(figure)
    figure = new_figure(3)
    figure.subplots().set_xscale("log")
    with pytest.raises(AssertionError):
        assert_readable(figure)
