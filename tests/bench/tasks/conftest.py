"""A data folder with an editing benchmark's file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roselora.bench.tasks.edit_case import EditCase
from roselora.bench.tasks.edit_datasets import DATASETS, read_cases

Write = Callable[[str, Any], Path]


FACT = {
    "subject": "Marmalade Lake",
    "prompt": "The country of Marmalade Lake is",
    "target_new": "Norway",
    "portability": {},
    "locality": {},
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts a benchmark's file into a data folder, and gives that folder."""

    def put(name: str, content: Any) -> Path:
        folder = tmp_path / "knowledge_editing"
        folder.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / DATASETS[name].file).write_text(text, encoding="utf-8")
        return tmp_path

    return put


def only(name: str, folder: Path) -> EditCase:
    (case,) = read_cases(name, folder).cases
    return case
