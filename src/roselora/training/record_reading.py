"""Training records from a .jsonl, .json or .csv file or from the hub, validated one by one.

`datasets` can read such files too, but not a user's: it takes a path for a pattern, guesses types (``null`` in CSV is
no text then, ``001`` is 1, and a text that looks like a date is one), and crashes on deeply nested JSON. So we parse
files, keep only the columns of the records' shape, and hand `datasets` nothing but validated values.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset, load_dataset
from pydantic import ValidationError

from roselora.errors import ConfigError, shortened
from roselora.files import PICKLE_SUFFIXES, user_path
from roselora.training.example_shapes import SHAPES, ExampleRecord, Shape, matching_shape, required_columns
from roselora.training.train_settings import DataSettings
from roselora.user_files import csv_rows, field_problem, json_records, read_text, shown

ENDINGS = (".jsonl", ".json", ".csv")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_MOST_DIGITS = 18
"""A whole number in CSV with more digits is a name: it would not fit into 64 bits."""


@dataclass(frozen=True)
class Records:
    """The records of one source.

    Attributes:
        rows: the columns of the shape, under the shape's own names.
        shape: what the rows look like.
        class_names: for a classification set of the hub that names its classes, these names in the order of their ids.
    """

    rows: Dataset
    shape: Shape
    class_names: list[str] | None = None


def read_records(source: str, settings: DataSettings, training: Records | None = None) -> Records:
    """The validated records of a file or hub dataset, in their order.

    Args:
        source: a file or a dataset's hub id.
        settings: the names of its columns, its shape, and how many records are used.
        training: for a validation set, the records that are trained on: they decide whether the labels of a CSV are
            numbers.

    Raises:
        ConfigError: there is no such file or dataset, it cannot be read, it is empty, it has no shape's columns, or a
            record is invalid; the message has the record's number, from 1.
    """
    rows = read_rows(source, settings.split)
    columns = _columns(column_names(rows), settings, source)
    shape, model = _shape(list(columns), settings.shape, source)
    columns = {name: columns[name] for name in model.model_fields if name in columns}
    class_names: list[str] | None = None
    if shape == "classification" and isinstance(rows, Dataset):
        class_names = getattr(rows.features[columns["label"]], "names", None)
    elif shape == "classification" and source.lower().endswith(".csv"):
        _parse_labels(rows, columns["label"], None if training is None else _has_number_labels(training))

    def validated(row: Mapping[str, Any], index: int) -> dict[str, Any]:
        values = {name: row.get(own) for name, own in columns.items()}
        if class_names is not None and values["label"] not in range(len(class_names)):
            values["label"] = None  # test sets without answers have -1
        try:
            return model.model_validate(values).model_dump()
        except ValidationError as error:
            raise ConfigError(
                f"Record {index + 1} of {source} is no {shape} example: {field_problem(error)}."
            ) from None

    count = len(rows) if settings.max_examples is None else min(settings.max_examples, len(rows))
    if isinstance(rows, Dataset):
        # The cache of datasets does not know this function's code, so a result in it may be of another version.
        options: dict[str, Any] = {"remove_columns": rows.column_names, "load_from_cache_file": False}
        return Records(rows.select(range(count)).map(validated, with_indices=True, **options), shape, class_names)
    values = [validated(row, index) for index, row in enumerate(rows[:count])]
    if shape == "classification":
        _unify_labels(values, source)
    return Records(Dataset.from_list(values), shape)


def read_rows(source: str, split: str = "train") -> list[dict[str, Any]] | Dataset:
    """The records of a file or hub dataset as they stand.

    Raises:
        ConfigError: there is no such file or dataset, it cannot be read, or it is empty.
    """
    path = user_path(source)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ConfigError(f"{source} may hold a pickle, which is never read; give .jsonl, .json or .csv.")
    if path.is_dir():
        raise ConfigError(f"{source} is a folder; name a .jsonl, .json or .csv file in it.")
    if path.is_file():
        if path.suffix.lower() not in ENDINGS:
            raise ConfigError(f"{source} is no .jsonl, .json or .csv file; give the data as one of these.")
        rows: list[dict[str, Any]] | Dataset = _rows_of_file(path)
    elif path.suffix.lower() in ENDINGS or not _HUB_ID.fullmatch(source):
        raise ConfigError(f"There is no data file {source}.")
    else:
        try:
            rows = load_dataset(source, split=split)
        except Exception as error:  # datasets raises many types, each about what it was given
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ConfigError(f"The data {source} cannot be read ({shortened(reason)}).") from error
    if not len(rows):
        raise ConfigError(f"The data {source} holds no records.")
    return rows


def column_names(rows: list[dict[str, Any]] | Dataset) -> list[str]:
    """The names that occur in the records, in their order."""
    return rows.column_names if isinstance(rows, Dataset) else list(dict.fromkeys(name for row in rows for name in row))


def _rows_of_file(path: Path) -> list[dict[str, Any]]:
    text = read_text(path)
    try:
        rows = _csv_records(text) if path.suffix.lower() == ".csv" else json_records(text)
    except ValueError as error:
        raise ConfigError(f"The data {path} cannot be read ({error}).") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ConfigError(f"Record {number} of {path} is {shown(row)}, not an object with names and values.")
    return rows


def _csv_records(text: str) -> list[dict[str, str]]:
    header, *rows = csv_rows(text) or [[]]
    if repeated := Counter(header) - Counter(set(header)):
        raise ValueError(f"its header names {shown(min(repeated))} twice")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"record {number} has {len(row)} cells, and the header {len(header)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _columns(present: list[str], settings: DataSettings, source: str) -> dict[str, str]:
    """The source's own name of each column; a column whose name ``data.columns`` gives to another one is hidden."""
    for own in settings.columns.values():
        if own not in present:
            raise ConfigError(f"data.columns names {shown(own)}, but {source} has {shortened(', '.join(present))}.")
    visible = [name for name in present if name not in settings.columns]
    return {name: name for name in visible if name not in settings.columns.values()} | settings.columns


def _shape(columns: list[str], wanted: Shape | Literal["auto"], source: str) -> tuple[Shape, type[ExampleRecord]]:
    if (found := matching_shape(columns, wanted)) is not None:
        return found
    needed: dict[str, list[str]] = {}
    for name, model in SHAPES:
        if wanted in ("auto", name):
            needed.setdefault(name, []).append(" + ".join(required_columns(model)))
    shapes = "; ".join(f"{name}: {' or '.join(sets)}" for name, sets in needed.items())
    raise ConfigError(
        f"{source} has the columns {shortened(', '.join(sorted(columns)))}, and needs others ({shapes}); say in "
        "data.columns which of its columns stand for them."
    )


def _parse_labels(rows: list[dict[str, Any]], column: str, numeric: bool | None) -> None:
    """Turn the labels of a CSV, which has no types, into numbers if all are written as numbers; ``001`` is a name.

    Args:
        numeric: for a validation set, whether the labels that are trained on are numbers; None to decide by its own.
    """
    cells: list[str] = [row[column] for row in rows]
    if numeric is None and all(map(_WHOLE.fullmatch, cells)):
        if max(map(len, cells)) <= _MOST_DIGITS:
            for row in rows:
                row[column] = int(row[column])
        return
    if numeric is None:
        numeric = all(map(_NUMBER.fullmatch, cells))
    for row in rows:
        if numeric and _NUMBER.fullmatch(row[column]):
            row[column] = float(row[column])


def _has_number_labels(records: Records) -> bool:
    return str(getattr(records.rows.features.get("label"), "dtype", "")).startswith("float")


def _unify_labels(rows: list[dict[str, Any]], source: str) -> None:
    """Refuse labels of several kinds, and make all numbers floats if one is: Arrow has one type per column."""
    kinds = [float if type(row["label"]) is int else type(row["label"]) for row in rows]
    for number, (row, kind) in enumerate(zip(rows, kinds, strict=True), start=1):
        if kind is not kinds[0]:
            raise ConfigError(
                f"Record {number} of {source}: its 'label' is {shown(row['label'])}, and that of record 1 is "
                f"{shown(rows[0]['label'])}; write all as texts, or all as numbers."
            )
    if any(isinstance(row["label"], float) for row in rows):
        for row in rows:
            row["label"] = float(row["label"])
