"""What all plots share: size and grid, a look for each method, a legend, and PNG."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow, which is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^")


def styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The colour and marker of each method in every plot; after seven methods the colours repeat."""
    return {
        method: {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place // len(COLOURS) % len(MARKERS)]}
        for place, method in enumerate(methods)
    }


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in inches that any backend can draw without a display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def with_grid(axes: Axes) -> Axes:
    """The axes with a faint grid and no frame above and to the right."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def legend(axes: Axes, beside: Axes | None = None) -> None:
    """The methods of the axes, beside these or other axes, where they cover nothing."""
    handles, labels = axes.get_legend_handles_labels()
    (beside or axes).legend(handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def footnote(figure: Figure, note: str) -> None:
    """A small line below everything."""
    figure.supxlabel(note, fontsize=8.5, color="#444444", x=0.01, ha="left", wrap=True)


def png(figure: Figure) -> bytes:
    """The picture."""
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()
