"""The examples in docstrings run: in this process, without the network, in a folder of their own."""

import ast
import contextlib
import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

import roselora

SOURCE = Path(roselora.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def with_example(source: str) -> set[str]:
    """The names of the functions, classes and methods whose docstring has an example; "" is the module itself."""
    found = set()

    def visit(node: ast.AST, name: str) -> None:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ">>> " in (ast.get_docstring(node) or ""):
                found.add(name)
            for child in node.body:
                visit(child, f"{name}.{getattr(child, 'name', '')}".lstrip("."))

    visit(ast.parse(source), "")
    return found


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text("utf-8")}


@pytest.fixture
def home(tmp_path: Path, word_model: Any, word_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run examples in. Its `model` is a small model that knows "The capital of France is Paris"."""
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path / "home"))
    word_model.save_pretrained(tmp_path / "model")
    word_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if with_example(path.read_text("utf-8"))])
def test_the_examples_of_a_module_give_what_they_say(name: str, home: Path) -> None:
    module = importlib.import_module(name)
    with contextlib.chdir(home):
        result = doctest.testmod(module, optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", roselora.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    home = MODULES.get(roselora._HOMES[name])
    assert home is not None, f"{roselora._HOMES[name]} has no example"
    assert any(found.partition(".")[0] == name for found in with_example(home.read_text("utf-8")))


def test_examples_are_found_in_modules_classes_and_methods_and_nowhere_else() -> None:
    source = '''
"""A module.

>>> 1
"""
class A:
    """None."""
    def f(self):
        """Doubles.

        >>> 2
        """
def g():
    """None."""
    return ">>> "
'''
    assert with_example(source) == {"", "A.f"}
    assert with_example("x = '>>> '") == set()
