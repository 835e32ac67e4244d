"""Small files of every shape, and settings for the tiny model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roselora.training.train_settings import TrainSettings

COMPLETIONS = [{"prompt": f"{a} and {b} make", "completion": f" {a + b}"} for a in range(4) for b in range(4)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(records: list[dict[str, Any]], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return make


@pytest.fixture
def settings(tiny_model_folder: Path, write: Callable[..., Path], tmp_path: Path) -> Callable[..., TrainSettings]:
    """A run of ten steps on the tiny model; sections are given as dictionaries of changes."""

    def make(**changes: Any) -> TrainSettings:
        values: dict[str, Any] = {
            "model": str(tiny_model_folder),
            "output": str(tmp_path / "out"),
            "data": {"train": str(write(COMPLETIONS, "sums.jsonl"))},
            "adapter": {"rank": 4, "density": 0.25, "target_modules": ["q_proj", "down_proj"]},
            "training": {"max_steps": 10, "batch_size": 4, "log_steps": 1, "learning_rate": 1e-2},
        }
        for section, change in changes.items():
            values[section] = {**values[section], **change} if isinstance(values.get(section), dict) else change
        return TrainSettings.model_validate(values)

    return make
