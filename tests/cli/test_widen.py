"""`roselora widen`: a folder that is the wider model, nothing on a dry run or an error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from roselora.cli.main import app
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore
from roselora.models.loading import load


@pytest.fixture
def invoke() -> Callable[..., Any]:
    return lambda *arguments: CliRunner().invoke(app, ["widen", *map(str, arguments)])


def test_the_folder_holds_the_wider_model_and_the_tokenizer(world_folder, invoke, tmp_path: Path) -> None:
    path = tmp_path / "wider"
    dry = json.loads(invoke(world_folder, path, "--neurons", 8, "--dry-run", "--json").stdout)
    assert not path.exists()
    told = json.loads(invoke(world_folder, path, "--neurons", 8, "--json").stdout)
    assert told == {**dry, "dry_run": False}
    base, wider = load(world_folder), load(path)
    assert wider.model.config.intermediate_size == base.model.config.intermediate_size + 8
    sizes = [sum(parameter.numel() for parameter in each.model.parameters()) for each in (base, wider)]
    assert [told["parameters_before"], told["parameters"]] == sizes
    ids = wider.tokenizer("The capital of France is ", return_tensors="pt")["input_ids"]
    torch.testing.assert_close(wider.model(ids).logits, base.model(ids).logits)


def test_nothing_is_written_into_a_store_or_into_the_models_own_folder(world_folder, invoke, tmp_path: Path) -> None:
    EditStore.open(tmp_path / "edits", BaseIdentity("nowhere", "LlamaForCausalLM", "ab" * 32), create=True)
    assert "within the edit store" in str(invoke(world_folder, tmp_path / "edits/wider").exception)
    assert "within the folder of the base model" in str(invoke(world_folder, world_folder / "wider").exception)


def test_what_is_there_stays(world_folder, invoke, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("text")
    result = invoke(world_folder, tmp_path)
    assert "exists already" in str(result.exception)
    assert [file.name for file in tmp_path.iterdir()].count("mine") == 1
