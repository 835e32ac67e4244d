"""GLUE's eight sets as benchmarks: each is trained on alone, and scored on its half of validation."""

from functools import partial
from pathlib import Path
from typing import Any

from roselora.bench.tasks.glue_data import Part, glue_rows, glue_set
from roselora.bench.tasks.glue_hub import hub_rows
from roselora.bench.tasks.glue_split import split_validation
from roselora.bench.tasks.task import Classification, Question, Read

PROTOCOL = "half of validation"
"""What GLUE's figures are of, by name: test labels are not public."""

SPLIT_SEED = 0
"""One split for all runs, so that every seed and method is scored on the same rows."""


def task(name: str) -> Classification:
    """The scoring rows of a set."""
    return Classification(name, PROTOCOL, partial(_scoring, name), labels(name))


def labels(name: str) -> tuple[str, ...]:
    """The classes of a set in the order of their ids, which is the alphabet's; none of STS-B."""
    return tuple(sorted((glue_set(name).labels or {}).values()))


def training_rows(name: str, data_dir: Path | None) -> Read:
    """A set's training rows: ``text``, maybe ``text_pair``, and ``label``.

    Raises:
        ConfigError: a file is missing or of another format, or the hub, which is asked without a folder, cannot be
            reached.
    """
    return _rows(name, "train", data_dir)


def selecting_rows(name: str, data_dir: Path | None) -> Read:
    """The rows of validation that select a model, as `training_rows`, which says what it raises."""
    read = _rows(name, "dev", data_dir)
    return Read([row for _, row in _split(read)[0]], read.sources, read.left_out)


def _scoring(name: str, data_dir: Path | None) -> Read:
    read = _rows(name, "dev", data_dir)
    (source,) = read.sources
    questions = [
        Question(f"{source}:{number}", row["text"], str(row["label"]), row.get("text_pair"))
        for number, row in _split(read)[1]
    ]
    return Read(questions, read.sources, read.left_out)


def _split(read: Read) -> tuple[list[tuple[int, Any]], list[tuple[int, Any]]]:
    return split_validation(list(enumerate(read.records)), SPLIT_SEED)


def _rows(name: str, part: Part, data_dir: Path | None) -> Read:
    return hub_rows(name, part) if data_dir is None else glue_rows(name, part, data_dir)
