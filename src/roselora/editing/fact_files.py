"""Reading facts to edit from a file: one JSON object per line, one JSON list of objects, or a CSV table."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.user_files import csv_rows, json_lines, json_list, read_text, shown

FIELDS = tuple(field.name for field in fields(EditRequest))


LISTS = ("rephrasings", "keep")
"""The fields with several texts; in a cell of a CSV file one a line."""

Kind = Literal["jsonl", "json", "csv"]


def read_requests(path: Path) -> list[EditRequest]:
    """The requests of a .jsonl, .json or .csv file, in its order; any other file is read as .jsonl.

    Each is an object with the fields of `EditRequest`, of which only prompt and target are required. A .csv file has
    them in its first line; an empty cell counts as left out, and consequences cannot be written.

    Raises:
        ConfigError: the file cannot be read, or a fact in it is invalid; the message says which.
    """
    ending = path.suffix.lower().removeprefix(".")
    return requests_in(read_text(path), ending if ending in ("json", "csv") else "jsonl", str(path))  # type: ignore[arg-type]


def requests_in(text: str, kind: Kind, source: str = "the text") -> list[EditRequest]:
    """The requests of a text, as `read_requests` reads them.

    Args:
        text: what a file of this kind holds.
        kind: of file.
        source: what errors call it.

    Raises:
        ConfigError: as `read_requests`.
    """
    try:
        if kind == "json":
            placed = [(f"Fact {number}", record) for number, record in enumerate(json_list(text), start=1)]
        elif kind == "csv":
            placed = [(f"Row {number}", record) for number, record in enumerate(_csv_records(text), start=1)]
        else:
            placed = [(f"Line {number}", record) for number, record in json_lines(text)]
    except ValueError as error:
        raise ConfigError(
            f"The facts in {source} cannot be read: {error}; a .jsonl file has one object per line, a .json file one "
            "list, and a .csv file the names of the fields in its first line."
        ) from None
    if not placed:
        raise ConfigError(f"{source} holds no facts.")
    return [_request(f"{where} of {source}", record) for where, record in placed]


def _csv_records(text: str) -> Iterator[dict[str, Any]]:
    """The rows below the first, which names the fields."""
    names, *rows = csv_rows(text) or [[]]
    if len(names) == 1 and ";" in names[0]:
        raise ValueError("its cells must be separated by commas")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} cells, and the first line {len(names)}")
        record: dict[str, Any] = {name: cell for name, cell in zip(names, row, strict=True) if cell}
        for name in LISTS:
            if name in record:
                record[name] = record[name].splitlines()
        if "space" in record:
            record["space"] = {"true": True, "false": False}.get(record["space"].lower(), record["space"])
        yield record


def _request(where: str, record: Any) -> EditRequest:
    if not isinstance(record, dict):
        raise ConfigError(f"{where} is not an object with the fields prompt and target.")
    if isinstance(consequences := record.get("consequences"), list):
        # Where they do not say in which form they must hold, it is the fact's.
        form = {name: record[name] for name in ("form",) if name in record}
        whole = [{**form, **each} if isinstance(each, dict) else each for each in consequences]
        fact = f"{where[0].lower()}{where[1:]}"
        implied = [_request(f"Consequence {number} of {fact}", each) for number, each in enumerate(whole, start=1)]
        record = {**record, "consequences": implied}
    if unknown := sorted(record.keys() - set(FIELDS)):
        raise ConfigError(f"{where} has the unknown field {shown(unknown[0])}; the fields are {', '.join(FIELDS)}.")
    for name in ("prompt", "target"):
        if name not in record:
            raise ConfigError(f"{where} has no {name}.")
    try:
        return EditRequest(**record)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
