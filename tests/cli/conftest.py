"""The command line as a user runs it: a process of its own, in an empty folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from roselora.cli.main import main; main()", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
        )

    return call


@pytest.fixture
def world_folder(world_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "world"
    world_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
