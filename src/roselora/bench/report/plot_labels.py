"""Names beside the points of a plot, so that none covers another name, a point or an error bar."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

DIRECTIONS = 16
RINGS = (12, 20, 30, 42, 56, 72, 90, 110, 132, 156)
"""How far, in points, a name may stand from its point; the nearest free place is taken."""

MARKER = 12


@dataclass(frozen=True)
class Point:
    """A point in the axes' units, and where its error bars end: (left, right), (bottom, top)."""

    x: float
    y: float
    across: tuple[float, float]
    upright: tuple[float, float]
    colour: str


def label_points(axes: Axes, canvas: FigureCanvasAgg, points: Mapping[str, Point]) -> list[Bbox]:
    """Write each name near its point, with a thin line to it. Axes and figure must be finished already.

    Returns:
        The boxes of the names, in pixels.
    """
    figure = canvas.figure
    figure.draw_without_rendering()  # the layout moves the axes: pixels are known only after it
    figure.set_layout_engine("none")
    pixels = figure.dpi / 72
    markers = [_box(_pixels(axes, point.x, point.y), MARKER * pixels, MARKER * pixels) for point in points.values()]
    bars = [bar for point in points.values() for bar in _bars(axes, point)]
    inside = axes.get_window_extent()
    taken: list[Bbox] = []
    for name, point in points.items():
        label = axes.annotate(
            name,
            (point.x, point.y),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            color=point.colour,
            fontweight="bold",
            path_effects=[withStroke(linewidth=3, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": point.colour, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 5},
        )
        # Text's own extent: an annotation's takes in its line.
        size = Text.get_window_extent(label)
        wanted = size.width / pixels + 4, size.height / pixels + 2
        centre = _pixels(axes, point.x, point.y)
        place = _free_place(centre, wanted, pixels, [*markers, *taken, *bars], inside)
        # In a crowd a name may lie over a bar, but not over another name.
        place = place or _free_place(centre, wanted, pixels, [*markers, *taken], inside)
        offset, box = place or ((0.0, 0.0), _box(centre, size.width, size.height))
        label.set_position(offset)
        taken.append(box)
    return taken


def _free_place(
    centre: tuple[float, float], size: tuple[float, float], pixels: float, taken: Sequence[Bbox], inside: Bbox
) -> tuple[tuple[float, float], Bbox] | None:
    """The nearest place around a point whose box is within the axes and covers nothing, or None.

    Args:
        centre: of the point, in pixels; ``taken`` and ``inside`` likewise.
        size: width and height, in points; ``pixels``: of one point.

    Returns:
        Offset from the point to the name's middle, in points, and the name's box, in pixels.
    """
    for ring in RINGS:
        for turn in range(DIRECTIONS):
            angle = 2 * math.pi * turn / DIRECTIONS
            # From the name's edge, not from its middle, so that long names stand no nearer than short ones.
            offset = math.cos(angle) * (ring + size[0] / 2), math.sin(angle) * (ring + size[1] / 2)
            middle = centre[0] + offset[0] * pixels, centre[1] + offset[1] * pixels
            box = _box(middle, size[0] * pixels, size[1] * pixels)
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if within and not any(box.overlaps(other) for other in taken):
                return offset, box
    return None


def _pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _bars(axes: Axes, point: Point) -> tuple[Bbox, Bbox]:
    left, right = (_pixels(axes, end, point.y) for end in point.across)
    bottom, top = (_pixels(axes, point.x, end) for end in point.upright)
    return Bbox([left, right]), Bbox([bottom, top])


def _box(middle: tuple[float, float], width: float, height: float) -> Bbox:
    return Bbox.from_bounds(middle[0] - width / 2, middle[1] - height / 2, width, height)
