"""The floors of the house: a module imports only from floors below its own or from its own room, and never in a circle.

An import inside a function, or for type checking alone, counts as any other.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "roselora"

FLOORS = {
    "errors": -1,  # below all: every module may raise
    "escaping": 0,
    "files": 0,
    "float64": 0,
    "json_text": 0,
    "markdown": 1,
    "staging": 1,
    "user_files": 1,
    "writer_lock": 1,
    "core": 2,
    "adapter": 3,
    "delta": 3,
    "models": 3,
    "serving": 4,  # below editing: the editor exports through it
    "training": 5,
    "editing": 5,
    "ui": 6,
    "bench.tasks": 6,
    "bench.methods": 6,
    "bench.records": 7,
    "bench.metrics": 8,
    "bench.report": 9,
    "bench.running": 10,
    "cli": 11,
}
FACES = {"", "bench"}
"""Packages that are the public face of what is below, or nothing but a name."""


def module_name(path: Path) -> str:
    """The dotted name within the package; that of the package itself is ''."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def room_of(module: str) -> str:
    """The room that a module lives in: the longest part of its name that has a floor."""
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in FLOORS), parts[0])


def imported(source: str) -> set[str]:
    """Every module of ours that a module's text imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("roselora."):
                found.add(name.removeprefix("roselora."))
    return {name if name in MODULES else name.rpartition(".")[0] or name for name in found}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The nodes of one circle in their order, or none."""
    done: set[str] = set()

    def walk(node: str, trail: list[str]) -> Iterator[list[str]]:
        if node in trail:
            yield trail[trail.index(node) :]
        elif node not in done:
            for other in sorted(graph.get(node, set())):
                yield from walk(other, [*trail, node])
            done.add(node)

    return next((found for node in graph for found in walk(node, [])), [])


@pytest.mark.parametrize("module", [name for name in MODULES if name not in FACES])
def test_a_module_imports_only_from_lower_floors(module: str) -> None:
    room = room_of(module)
    assert room in FLOORS, f"{room} is a room that has no floor"
    for other in {room_of(name) for name in imported(MODULES[module].read_text())} - {room}:
        assert FLOORS.get(other, 99) < FLOORS[room], f"{module} on floor {FLOORS[room]} imports {other}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: imported(path.read_text()) for name, path in MODULES.items() if name not in FACES}
    assert circle(graph) == []


def test_an_upward_import_and_a_circle_would_be_seen() -> None:
    assert imported("def f():\n    from roselora.cli.main import main") == {"cli.main"}
    assert imported("import roselora.core.pruning") == {"core.pruning"}
    assert imported("from roselora import errors") == {"errors"}
    assert room_of("bench.tasks.zsre") == "bench.tasks"
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


EXTRAS = {"datasets", "lm_eval", "matplotlib", "mlx_lm", "sklearn", "starlette", "trl", "uvicorn", "xllamacpp"}
OTHER_PROGRAMS = {"serving.engines.llama_cpp", "serving.engines.mlx_engine", "serving.engines.openvino_engine"}
"""What asks programs that have an extra each, in a process of its own."""


def test_without_extras_everything_imports_but_training_the_benchmark_and_other_programs() -> None:
    rooms = {"training", "bench", "ui"}
    without = {name for name in MODULES if name.split(".")[0] in rooms} | OTHER_PROGRAMS | {"__main__"}
    program = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(EXTRAS | {f'roselora.{room}' for room in rooms})}))\n"
        f"for name in {[name for name in MODULES if name not in without]}:\n"
        "    importlib.import_module(f'roselora.{name}' if name else 'roselora')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
