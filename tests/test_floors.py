"""The house has floors: a module imports only from floors below its own, or from its own folder."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "roselora"

FLOORS = {
    "errors": -1,  # below all: every module may raise
    "files": 0,
    "json_text": 0,
    "plain_files": 0,
    "visible": 0,
    "staging": 1,
    "core": 1,
    "adapter": 2,
    "delta": 2,
    "models": 2,
    "training": 3,
    "editing": 3,
    "baselines": 4,  # above editing: ours stands among them
    "evaluation": 5,
    "reports": 6,
    "cli": 7,
}


def room_of(path: Path) -> str:
    """The top-level folder or file that a module lives in; the package's own face is ''."""
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "" if room == "__init__" else room


def rooms_imported(source: str) -> set[str]:
    """Every roselora room that a module's text imports, at its top or inside a function."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("roselora.")}
    return rooms


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if room_of(path))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    room = room_of(path)
    assert room in FLOORS, f"{room} is a room the design does not know"
    for other in rooms_imported(path.read_text()) - {room}:
        assert FLOORS.get(other, 99) < FLOORS[room], f"{path.name} on floor {FLOORS[room]} imports {other}"


def test_an_upward_import_would_be_seen() -> None:
    assert rooms_imported("def f():\n    from roselora.cli.main import main") == {"cli"}
    assert rooms_imported("import roselora.core.pruning") == {"core"}
    assert rooms_imported("from roselora import errors") == {"errors"}
