"""What all plots share: a width for phones, marks that are told apart without colour, rows of names, and PNG."""

import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

WIDTH = 4.5
"""Inches."""

TEXT = 10.0
"""Points, the size of all text: 10 pixels in 324 across, less than a page of 360 leaves between its margins."""

LINE = 52
"""How many characters of such text fit into a line of a figure."""

DPI = 160

LOOKS: tuple[Mapping[str, Any], ...] = (
    {"marker": "o", "markerfacecolor": "#0072B2", "color": "#0072B2", "linestyle": "-"},
    {"marker": "s", "markerfacecolor": "white", "color": "#B34700", "linestyle": "--"},
)
"""Of a plot's first and second series: filled circles and solid lines, empty squares and dashed ones."""

GREY = "#555555"


class Mark(NamedTuple):
    """A value, and the ends of its interval or range; the value itself where it has none."""

    value: float
    low: float
    high: float


def new_figure(height: float) -> Figure:
    """A figure of a height in inches that any backend can draw without a display."""
    figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.1))
    FigureCanvasAgg(figure)
    return figure


def with_grid(axes: Axes) -> Axes:
    """The axes with a faint grid and no frame above and to the right."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_rows(
    axes: Axes, names: Sequence[str], series: Mapping[str, Sequence[Mark | None]], shown: Sequence[str] = ()
) -> None:
    """A row for each name, the first on top: a mark of each series with its interval, one below the other.

    Args:
        names: of the methods; they stand on the left.
        series: by their label, one mark for each name.
        shown: what stands on the right of each row.
    """
    axes.grid(visible=False, axis="y")
    for place, (label, marks) in enumerate(series.items()):
        found = [(row + aside(place, len(series)), mark) for row, mark in enumerate(marks) if mark is not None]
        axes.errorbar(
            [mark.value for _, mark in found],
            [row for row, _ in found],
            xerr=spread([mark for _, mark in found]),
            label=label,
            **{**LOOKS[place], "linestyle": "none"},
            elinewidth=1.5,
            capsize=3,
        )
    for row, text in enumerate(shown):
        right_edge = axes.get_yaxis_transform()
        axes.annotate(text, (1, row), (5, 0), xycoords=right_edge, textcoords="offset points", va="center")
    for between in range(1, len(names)):
        axes.axhline(between - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def aside(place: int, count: int) -> float:
    """How far below its row's middle one of so many series is drawn.

    >>> aside(0, 2), aside(1, 2), aside(0, 1)
    (-0.18, 0.18, 0.0)
    """
    return 0.36 * (place - (count - 1) / 2)


def spread(marks: Sequence[Mark]) -> list[list[float]]:
    """The distances of each value from both ends, as matplotlib takes them.

    Rounding may put the mean of equal values a hair outside of its interval.
    """
    return [
        [max(0.0, mark.value - mark.low) for mark in marks],
        [max(0.0, mark.high - mark.value) for mark in marks],
    ]


def plain(value: float, place: object = None) -> str:
    """The label of a tick, without an exponent, whose small digits a phone would not show.

    >>> plain(0.01), plain(500), plain(20_000), plain(10_000_000)
    ('0.01', '500', '20 k', '10 M')
    """
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g} {letter}"
    return f"{value:g}"


def headline(figure: Figure, title: str, details: str = "") -> None:
    """The title, and below it what was run, in as many lines as they take."""
    figure.suptitle("\n".join(textwrap.wrap(title, LINE) + textwrap.wrap(details, LINE)), fontsize=TEXT)


def explain(figure: Figure, note: str, axes: Axes | None = None) -> None:
    """Below everything, where they cover nothing: a note, and the series of the axes."""
    handles, labels = axes.get_legend_handles_labels() if axes else ([], [])
    figure.legend(
        handles,
        ["\n".join(textwrap.wrap(label, LINE - 6)) for label in labels],
        loc="outside lower left",
        title="\n".join(textwrap.wrap(note, LINE)),
        alignment="left",
        frameon=False,
        handlelength=3,
    )


def png(figure: Figure) -> bytes:
    """The picture."""
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=DPI)
    return picture.getvalue()
