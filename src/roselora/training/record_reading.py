"""Records from a .jsonl, .json or .csv file, each value checked before any library sees it.

`datasets` has a reader for each, and none is used for a file of the user: it takes a path for a pattern, guesses types
(``null`` in CSV is no text then, ``001`` is 1, and a text that looks like a date is one), and crashes on deep nesting.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset

from roselora.errors import ConfigError
from roselora.user_files import csv_rows, json_records, read_text, shown

MOST_NAMES = 100
"""Of a file's columns: each record may have others, and a table is as large as records times columns."""
MOST_MESSAGES = 1000
"""Of a conversation: each answer becomes an example with all that stands before it."""
ENDINGS = (".jsonl", ".json", ".csv")

_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_MOST_DIGITS = 18
"""Of a whole number that is counted with: a longer one is a name."""
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def read_records(
    path: Path, choose: Callable[[list[str]], Mapping[str, str]], numeric_labels: bool | None = None
) -> Dataset:
    """The records of a file in its order; columns that nobody wants are empty, and `MOST_NAMES` of them are named.

    Args:
        path: with one of `ENDINGS`.
        choose: of the names of the columns those that are wanted, each with what it stands for: one of
            `settings.COLUMNS`.
        numeric_labels: whether the labels of a CSV are numbers; None: as all of them are written.

    Raises:
        ConfigError: the file cannot be read, holds no records, or a wanted value is no text, number, or conversation.
    """
    text = read_text(path)
    try:
        records = _csv_records(text) if path.suffix.lower() == ".csv" else json_records(text)
    except ValueError as error:
        raise ConfigError(f"The data {path} cannot be read ({error}).") from None
    if not records:
        raise ConfigError(f"The data {path} holds no records.")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise ConfigError(f"Record {number} of {path} is {shown(record)}, and not an object with names and values.")
    names = list(dict.fromkeys(name for record in records for name in record))
    wanted = choose(names)
    columns: dict[str, Any] = {}
    for name in [*names[:MOST_NAMES], *wanted]:
        if "\0" in name or _half_character(name):
            raise ConfigError(f"{path} has a column {shown(name)}, which cannot be a name; give it another.")
        columns[name] = pyarrow.nulls(len(records))
    for name, meaning in wanted.items():
        values = [record.get(name) for record in records]
        if meaning == "label" and path.suffix.lower() == ".csv":
            values = _as_labels(values, numeric_labels)
        columns[name] = _column(values, name, meaning, path)
    return Dataset.from_dict(columns)


def _csv_records(text: str) -> list[dict[str, str]]:
    header, *rows = csv_rows(text) or [[]]
    if repeated := Counter(header) - Counter(set(header)):
        raise ValueError(f"its header names {shown(min(repeated))} twice")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"record {number} has {len(row)} cells, and the header {len(header)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _as_labels(cells: list[Any], numeric: bool | None) -> list[Any]:
    """Numbers, if all are written as numbers are; a cell of CSV has no type, and ``001`` is a name."""
    if numeric is None and all(map(_WHOLE.fullmatch, cells)):
        return list(map(int, cells)) if max(map(len, cells)) <= _MOST_DIGITS else cells
    if numeric is None:
        numeric = all(map(_NUMBER.fullmatch, cells))
    return [float(cell) if numeric and _NUMBER.fullmatch(cell) else cell for cell in cells]


def _column(values: list[Any], name: str, meaning: str, path: Path) -> list[Any]:
    """The values, all texts, all numbers, all yes and no, or all conversations; null may stand anywhere."""
    first: tuple[int, Any] | None = None
    checked = []
    for number, value in enumerate(values, start=1):
        try:
            checked.append(_conversation(value) if meaning == "messages" else _plain(value))
        except ValueError as error:
            raise ConfigError(f"Record {number} of {path}: its {shown(name)} {error}.") from None
        if value is None:
            continue
        first = first or (number, value)
        if _kind(value) != _kind(first[1]):
            raise ConfigError(
                f"Record {number} of {path}: its {shown(name)} is {shown(value)}, and that of record {first[0]} is "
                f"{shown(first[1])}; write all as texts, or all as numbers."
            )
    return checked


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        if half := _half_character(value):
            raise ValueError(f"holds half a character ({half!r})")
        return value
    if isinstance(value, float | None) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    raise ValueError(f"is {shown(value)}, neither a text nor a number")


def _half_character(text: str) -> str | None:
    """What JSON can write, and UTF-8 cannot: one of the two surrogates that UTF-16 makes a character of."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return text[error.start]
    return None


def _conversation(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError(f"is {shown(value)}, no list of messages")
    if len(value) > MOST_MESSAGES:
        raise ValueError(
            f"has {len(value):,} messages, and a conversation at most {MOST_MESSAGES:,}; cut it into several"
        )
    return [_message(message) for message in value]


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ValueError(f"has the message {shown(message)}, which has no role and content")
    parts = {part: _plain(message.get(part)) for part in ("role", "content")}
    for part, value in parts.items():
        if not isinstance(value, str | None):
            raise ValueError(f"has a message whose {part} is {shown(value)}, no text")
    return parts
