"""Absurd values of every setting: one typed error and nothing changed, or it works."""

import dataclasses
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from roselora.editing.editor import Editor
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.errors import RoseLoraError
from roselora.models import load
from roselora.models.fingerprint import fingerprint
from roselora.training.train_settings import TrainSettings
from tests.attacks.attacking import contents, require_told, require_typed, roselora, some_in_ci
from tests.attacks.conftest import FACTS, QUICK
from tests.attacks.test_files import prepare_run

ABSURD = [
    "0",
    "-1",
    ".nan",
    ".inf",
    "1e308",
    "1e-320",
    str(2**64),
    "''",
    "x",
    "null",
    "[]",
    "[1, [x]]",
    "{a: b}",
    "true",
]


def keys(section: type[BaseModel] = TrainSettings, prefix: str = "") -> Iterator[str]:
    """Every key of a config file, with its sections."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize(("key", "value"), some_in_ci(product(keys(), ABSURD), every=75))
def test_keys_of_a_config_file(model_folder: Path, tmp_path: Path, key: str, value: str) -> None:
    prepare_run(tmp_path, model_folder)
    before = contents(model_folder)
    ended = roselora("train", "c.yaml", "--set", f"{key}={value}", folder=tmp_path)
    require_told(ended)
    if ended.code == 0:
        assert "no SparseDelta" not in ended.out
        assert any(tmp_path.rglob("adapter_model.safetensors"))
    elif ended.code == 2:  # refused before anything was done
        assert {path.name for path in tmp_path.iterdir()} == {"c.yaml", "data.jsonl"}
    assert not any(tmp_path.rglob("adapter")) or ended.code == 0
    assert contents(model_folder) == before


METHODS_OF_TRAINING = ("lora", "dora", "adalora", "shira", "ia3", "prefix", "loreft", "full")


EXTREMES = ("learning_rate=1e30", "max_grad_norm=1e-300", "weight_decay=1e308")


@pytest.mark.parametrize(("method", "setting"), some_in_ci(product(METHODS_OF_TRAINING, EXTREMES), every=11))
def test_every_method_saves_numbers_or_nothing(model_folder: Path, tmp_path: Path, method: str, setting: str) -> None:
    prepare_run(tmp_path, model_folder)
    override = ["--set", f"training.{setting}", "--set", "adapter.alpha=1e4"]
    ended = roselora("train", "c.yaml", "--method", method, *override, folder=tmp_path)
    require_told(ended)
    for path in tmp_path.rglob("*.json*"):
        assert "NaN" not in path.read_text()
        assert "Infinity" not in path.read_text()
    assert any(tmp_path.rglob("README.md")) == (ended.code == 0)
    assert any(tmp_path.rglob("*.safetensors")) == (ended.code == 0)


OPTIONS = ("--rank", "--density", "--learning-rate", "--max-steps", "--seed", "--subject", "--rephrase", "--keep",
           "--prompt", "--target", "--store", "--method")  # fmt: skip
TYPED = ("0", "-1", "nan", "inf", "1e308", "1e-320", str(2**64), "", " ", "x", "None", "[]", "\udcff", "\x00")


@pytest.mark.parametrize(("option", "value"), some_in_ci(product(OPTIONS, TYPED), every=15))
def test_options_of_edit(model_folder: Path, tmp_path: Path, option: str, value: str) -> None:
    given = {"--prompt": "The capital of France is", "--target": "Rome", "--method": "rose", "--max-steps": "20"}
    words = [word for pair in (given | {option: value}).items() for word in pair]
    before = contents(model_folder)
    ended = roselora("edit", str(model_folder), *words, folder=tmp_path)
    require_told(ended)
    assert contents(model_folder) == before


VALUES = [0, -1, float("nan"), float("inf"), 1e308, 2**64, "", "x", None, [], [None], True]


def fields(*settings: type) -> list[tuple[type, str, Any]]:
    return [(kind, field.name, value) for kind in settings for field in dataclasses.fields(kind) for value in VALUES]


@pytest.fixture(scope="module")
def editor(model_folder: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Editor:
    return Editor(load(model_folder), QUICK, shutil.copytree(store_folder, tmp_path_factory.mktemp("s") / "edits"))


@pytest.mark.parametrize(("settings", "name", "value"), some_in_ci(fields(EditSettings, GateSettings), every=29))
def test_settings_of_an_edit(editor: Editor, settings: Any, name: str, value: Any) -> None:
    quick = dataclasses.asdict(QUICK) if settings is EditSettings else {"max_steps": 3}
    before, edits = fingerprint(editor.model), editor.edits

    def edit() -> None:
        editor.settings = settings(**quick | {name: value})
        editor.propose("The symbol of gold is", "Pb")

    try:
        require_typed(edit)
    finally:
        editor.settings = QUICK
    assert (fingerprint(editor.model), editor.edits) == (before, edits)


ARGUMENTS = ("prompt", "target", "subject", "rephrasings", "keep", "space")


ODD = [*VALUES, "\ud800", "\x00", ["\ud800"], [1], {"a": 1}, b"x", "a" * 5000]


@pytest.mark.parametrize(("name", "value"), some_in_ci(product(ARGUMENTS, ODD), every=10))
def test_arguments_of_an_edit(editor: Editor, name: str, value: Any) -> None:
    before, edits = fingerprint(editor.model), editor.edits
    given = {"prompt": FACTS[1][0], "target": "Pb", name: value}
    outcome = require_typed(lambda: editor.edit(**given))
    if not isinstance(outcome, RoseLoraError):
        editor.undo(outcome.id)
        edits = editor.edits
    assert (fingerprint(editor.model), editor.edits) == (before, edits)


METHODS = ("undo", "redo", "show", "delta", "answers")


@pytest.mark.parametrize(("name", "value"), some_in_ci(product(METHODS, ODD), every=10))
def test_arguments_of_the_editor(
    editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    before = fingerprint(editor.model)
    if name == "undo" and value is None:  # means the last one
        return
    require_typed(lambda: getattr(editor, name)(value))
    assert fingerprint(editor.model) == before
