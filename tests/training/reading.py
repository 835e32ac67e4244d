"""Helpers of the tests that read training data."""

from pathlib import Path
from typing import Any

from roselora.training.examples import causal_examples
from roselora.training.record_reading import Records, read_records
from roselora.training.train_settings import DataSettings


def read(path: Path, **settings: Any) -> Records:
    """The records of a file."""
    return read_records(str(path), DataSettings(train=str(path), **settings))


def shaped(path: Path, chat: bool = False, **settings: Any) -> list[dict[str, Any]]:
    """The examples of a file."""
    records = read(path, **settings)
    return [example for row in records.rows for example in causal_examples(row, records.shape, chat=chat)]


def table(tmp_path: Path, text: str) -> Path:
    """A CSV file with this text."""
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8")
    return path
