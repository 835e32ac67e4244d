"""What the wheel and the source distribution hold."""

from pathlib import Path

import pytest

from tests.package.wheel import ROOT, build, names_in


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("hatchling")
    return build(tmp_path_factory.mktemp("dist"))


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = names_in(built[0])
    tops = {name.split("/")[0] for name in names}
    assert tops == {"roselora", next(top for top in tops if top.endswith(".dist-info"))}
    assert "roselora/py.typed" in names
    package = ROOT / "src" / "roselora"
    tracked = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {f"roselora/{path.relative_to(package).as_posix()}" for path in tracked} == {
        name for name in names if name.startswith("roselora/")
    }


def test_the_source_distribution_holds_every_file_of_the_folders_that_its_tests_read(built: tuple[Path, Path]) -> None:
    names = set(names_in(built[1]))
    assert {"README.md", "LICENSE", "pyproject.toml", "mkdocs.yml", "Makefile", "constraints.txt"} <= names
    for folder in ("src", "tests", "docs", "benchmarks", "examples"):
        own = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}
        assert own <= names
