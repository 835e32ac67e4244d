"""The command line as a user runs it: a process of its own, in an empty folder."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import run_command

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command(arguments, tmp_path, {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"})

    return call


@pytest.fixture
def world_folder(world_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "world"
    world_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
