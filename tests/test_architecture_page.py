"""The page on the architecture names rooms and files that are there."""

import re
from pathlib import Path

from tests.test_floors import FLOORS, SOURCE

PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_path_on_the_page_exists() -> None:
    elsewhere = {"benchmarks/", "tests/", "tests/test_floors.py", "rose/"}
    paths = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", PAGE)) - elsewhere
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (SOURCE / path.removeprefix("src/roselora/")).exists()] == []


def test_every_room_is_in_the_picture() -> None:
    picture = PAGE.split("```")[1]
    rooms = {room.rpartition(".")[2] for room in FLOORS if (SOURCE / room.replace(".", "/")).is_dir()}
    assert [room for room in sorted(rooms) if f"{room}/" not in picture] == []
