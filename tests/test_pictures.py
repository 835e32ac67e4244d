"""The pictures of the pages can be read on a phone, in grey and on a dark page, and stand by themselves."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from tests.plots import PHONE, SMALLEST

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = sorted((DOCS / "pictures").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
picture = pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)


def test_there_are_pictures_and_nothing_else() -> None:
    drawn = {path.name for path in (DOCS / "pictures").iterdir()} - {path.name for path in PICTURES}
    assert [path.name for path in PICTURES] == ["edit.svg", "method.svg"]
    assert drawn == {"forgetting_curve.png"}  # by a benchmark, with the plots' own settings


@picture
def test_a_picture_says_what_it_shows_and_needs_nothing_from_elsewhere(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    for name in ("title", "desc"):
        assert (root.findtext(f"{SVG}{name}") or "").strip()
    assert root.get("role") == "img"
    assert set(re.findall(r"https?://[^\"' ]+", path.read_text())) == {"http://www.w3.org/2000/svg"}
    names = {element.get("id") for element in root.iter()}
    for element in root.iter():
        assert element.tag.removeprefix(SVG) not in ("script", "image", "foreignObject", "style", "a")
        for key, value in element.attrib.items():
            for target in [value] if key.endswith("href") else re.findall(r"url\((.*?)\)", value):
                assert target.removeprefix("#") in names
                assert target.startswith("#")


@picture
def test_a_picture_is_grey_on_a_ground_of_its_own(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    ground = next(element for element in root if element.tag == f"{SVG}rect")
    assert [ground.get("width"), ground.get("height")] == root.attrib["viewBox"].split()[2:]
    assert ground.get("fill") == "#ffffff"
    colours = {element.get(key) for element in root.iter() for key in ("fill", "stroke")} - {None, "none"}
    for colour in colours:
        assert re.fullmatch(r"#([0-9a-f]{2})\1\1|url\(#\w+\)", str(colour))


@picture
def test_the_text_of_a_picture_is_large_enough_on_a_phone(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    shown = min(PHONE, float(root.attrib["width"])) / float(root.attrib["viewBox"].split()[2])
    sizes = {element: element.get("font-size") for element in root.iter() if element.get("font-size")}
    assert {element.tag for element in sizes} <= {f"{SVG}svg", f"{SVG}text"}
    assert min(float(size or 0) for size in sizes.values()) * shown >= SMALLEST
    assert "scale" not in path.read_text()


@picture
def test_the_text_of_a_picture_ends_within_its_box(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    boxes = [[float(box.get(key, 0)) for key in ("x", "y", "width", "height")] for box in root.findall(f"{SVG}rect")]
    boxes += [
        [float(box.attrib[key]) for key in ("x", "y", "width", "height")] for box in root.iterfind(f"{SVG}g/{SVG}rect")
    ]
    for group in [root, *root.findall(f"{SVG}g")]:
        moved = re.fullmatch(r"translate\((\d+) (\d+)\)", group.get("transform", "translate(0 0)"))
        assert moved
        for text in group.findall(f"{SVG}text"):
            left, base = (float(text.get(key, 0)) + float(by) for key, by in zip("xy", moved.groups(), strict=True))
            right = left + across(text, float(text.get("font-size", root.attrib["font-size"])))
            around = [x + width for x, y, width, height in boxes if x <= left <= x + width and y <= base <= y + height]
            assert right < min(around) - 2, text.text


def across(text: ElementTree.Element, size: float) -> float:
    """The width from the x of a text in DejaVu Sans, which is wider than what most systems have."""
    font = FontProperties(family="DejaVu Sans", weight=text.get("font-weight", "normal"))
    width = float(TextPath((0, 0), text.text or "", size=size, prop=font).get_extents().width)
    return width / 2 if text.get("text-anchor") == "middle" else width


@picture
def test_a_picture_is_shown_on_a_page_with_an_alternative_text(path: Path) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert re.search(rf"!\[[^\]]{{40,}}\]\(pictures/{re.escape(path.name)}\)", pages)
