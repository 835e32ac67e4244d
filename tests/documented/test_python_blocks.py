"""The Python that the pages show: it is Python, what it imports is there, and what is whole runs as it stands."""

import ast
import contextlib
import importlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from tests.documented.commands import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks() -> dict[str, str]:
    """By page and line."""
    found = {}
    for path in sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")]):
        text = path.read_text("utf-8")
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            found[f"{path.relative_to(ROOT).as_posix()}:{line}"] = block[1]
    return found


BLOCKS = blocks()

NOT_HERE = {"openvino_genai"}
"""What needs an environment of its own, so that no test can import it."""


@pytest.mark.parametrize("place", BLOCKS)
def test_what_a_block_imports_is_there(place: str) -> None:
    for node in ast.walk(ast.parse(BLOCKS[place])):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name in NOT_HERE:
                    continue
                importlib.import_module(name.name)


def block_of(page: str, beginning: str) -> str:
    """The block of a page that holds these words."""
    (found,) = [text for place, text in BLOCKS.items() if place.startswith(page) and beginning in text]
    return found


def test_the_training_of_the_readme_runs(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = tiny_tokenizer("Snow is white").input_ids
    known = {
        "base": tiny_model(),
        "Trainer": Trainer,
        "args": TrainingArguments(
            str(tmp_path / "runs"), max_steps=10, per_device_train_batch_size=1, report_to=[], disable_tqdm=True
        ),
        "data": Dataset.from_list([{"input_ids": ids, "labels": ids}] * 10),
    }
    with contextlib.chdir(tmp_path):
        exec(block_of("README.md", "get_peft_model"), known)
        assert 0 < float(capsys.readouterr().out.splitlines()[-1]) < 1
        from peft import PeftModel

        exec(block_of("docs/training.md", "from_pretrained"), {**known, "base": tiny_model(), "PeftModel": PeftModel})


@pytest.mark.demo
def test_the_edit_of_the_readme_runs(demo: Any, tmp_path: Path) -> None:
    known: dict[str, Any] = {}
    with contextlib.chdir(tmp_path):
        exec(block_of("README.md", "Editor.open"), known)
    assert known["editor"].edits == ()


@pytest.mark.nightly
@pytest.mark.demo
def test_the_editor_of_the_page_runs(demo: Any, tmp_path: Path) -> None:
    """Its `[...]` and `EditRequest(prompt, target, subject), ...` stand for what a reader has."""
    code = block_of("docs/editing.md", "edit_many").replace("=[...]", "=[]")
    code = code.replace("EditRequest(prompt, target, subject), ...", "request")
    from roselora import EditRequest

    known: dict[str, Any] = {"request": EditRequest("The chemical symbol for gold is", "Go", "gold")}
    with contextlib.chdir(tmp_path):
        exec(code, known)
        assert (tmp_path / "adapter").is_dir()
        shutil.rmtree(tmp_path / "adapter")
