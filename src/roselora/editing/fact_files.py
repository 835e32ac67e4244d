"""Reading facts to edit from a file: one JSON object per line, or one JSON list of objects."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.user_files import json_lines, json_list, read_text, shown

FIELDS = tuple(field.name for field in fields(EditRequest))


def read_requests(path: Path) -> list[EditRequest]:
    """The requests of a .jsonl or .json file, in its order.

    Each is an object with the fields of `EditRequest`, of which only prompt and target are required.

    Raises:
        ConfigError: the file cannot be read, or a fact in it is invalid; the message says which.
    """
    text = read_text(path)
    try:
        if path.suffix.lower() == ".json":
            placed = [(f"Fact {number}", record) for number, record in enumerate(json_list(text), start=1)]
        else:
            placed = [(f"Line {number}", record) for number, record in json_lines(text)]
    except ValueError as error:
        raise ConfigError(
            f"The facts in {path} cannot be read: {error}; a .jsonl file has one object per line, and "
            "a .json file one list."
        ) from None
    if not placed:
        raise ConfigError(f"{path} holds no facts.")
    return [_request(f"{where} of {path}", record) for where, record in placed]


def _request(where: str, record: Any) -> EditRequest:
    if not isinstance(record, dict):
        raise ConfigError(f"{where} is not an object with the fields prompt and target.")
    if unknown := sorted(record.keys() - set(FIELDS)):
        raise ConfigError(f"{where} has the unknown field {shown(unknown[0])}; the fields are {', '.join(FIELDS)}.")
    for name in ("prompt", "target"):
        if name not in record:
            raise ConfigError(f"{where} has no {name}.")
    try:
        return EditRequest(**record)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
