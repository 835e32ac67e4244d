"""A model that can be edited in a moment, and a store with two edits of it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from roselora.editing.editor import Editor
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.models import load
from tests.attacks.attacking import offline

QUICK = EditSettings(
    target_modules=("v_proj", "down_proj"), warmup=1, ramp=2, max_steps=40, keep_weight=0.1, learning_rate=2e-2
)
FACTS = (("The capital of France is", "Rome"), ("The symbol of gold is", "Fe"))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    offline(monkeypatch, tmp_path_factory.getbasetemp() / "home")


@pytest.fixture(scope="session")
def model_folder(
    world_weights: Any, tiny_model: Any, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny world as files; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("attacked") / "world"
    model = tiny_model(hidden_size=64, intermediate_size=128)
    model.load_state_dict(world_weights)
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def store_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two edits, the second undone; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("stored") / "edits"
    editor = Editor(load(model_folder), QUICK, folder)
    for fact in FACTS:
        edit = editor.edit(*fact)
    editor.undo(edit.id)
    return folder


@pytest.fixture
def store(store_folder: Path, tmp_path: Path) -> Path:
    """A copy of that store, of this test's own."""
    return Path(shutil.copytree(store_folder, tmp_path / "edits"))


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model, of this test's own."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))
