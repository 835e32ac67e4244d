"""What every plot promises: on a phone its text can be read, and no series is known by its colour alone."""

from itertools import combinations
from typing import Any
from unittest import mock

from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text

PHONE, SMALLEST = 328, 10
"""Pixels across, of a page that is 360 wide without its margins, and the size of the smallest text."""


def assert_readable(figure: Figure) -> None:
    """No text is too small, cut off or covered by other text, and no two series of a panel look alike in grey."""
    texts = drawn_texts(figure)
    assert texts
    small = [text.get_text() for text in texts if "$" in text.get_text() or pixels(text, figure) < SMALLEST]
    assert small == []
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    page = figure.bbox.padded(1)
    cut = [name for name, box in boxes if not (page.x0 <= box.x0 and box.x1 <= page.x1)]
    cut += [name for name, box in boxes if not (page.y0 <= box.y0 and box.y1 <= page.y1)]
    assert cut == []
    covered = [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if a.padded(-1).overlaps(b.padded(-1))]
    assert covered == []
    for axes in figure.axes:
        looks = [look(handle) for handle in axes.get_legend_handles_labels()[0]]
        assert len(set(looks)) == len(looks), looks


def pixels(text: Text, figure: Figure) -> float:
    """How high text of this size is where the plot fills a phone; small digits of formulas are not looked at."""
    return float(text.get_fontsize()) * PHONE / (72 * figure.get_figwidth())


def drawn_texts(figure: Figure) -> list[Text]:
    """All text that is drawn, ticks' labels too, of which some that exist are not."""
    found: list[Text] = []
    draw = Text.draw

    def noting(text: Text, *args: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            found.append(text)
        draw(text, *args)

    figure.draw_without_rendering()
    with mock.patch.object(Text, "draw", noting):
        figure.canvas.draw()
    return found


def look(handle: Any) -> tuple[str, str]:
    """Marker and line of a series, whatever its colour."""
    line = handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle
    return str(line.get_marker()), str(line.get_linestyle())
