"""Edits and events as rows of the store's database: written, read back and checked.

Each row carries a hash of its own contents, which for an edit is its id, because SQLite does not notice a flipped
bit in a value.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import ID_LENGTH, BaseIdentity, Event, StoredEdit
from roselora.errors import ConfigError, StoreError, shortened

EDIT_COLUMNS = "position, id, request, delta_sha256, provenance, created, active"
EVENT_COLUMNS = "number, edit, kind, detail, time, digest"

_BASE, _EDIT, _EVENT = TypeAdapter(BaseIdentity), TypeAdapter(StoredEdit), TypeAdapter(Event)


def insert_edit(
    connection: sqlite3.Connection, request: EditRequest, delta_sha256: str, provenance: Mapping[str, Any]
) -> StoredEdit:
    """Add an edit at the end of the commit order, and its event.

    Raises:
        ConfigError: the provenance is not plain JSON, or a part of the request has the wrong type.
    """
    (position,) = connection.execute("SELECT coalesce(max(position), 0) + 1 FROM edits").fetchone()
    contents = (_json("request", asdict(request)), delta_sha256, _json("provenance", provenance), _now())
    row = (position, _digest(position, *contents)[:ID_LENGTH], *contents, 1)
    try:
        edit = _edit(row)
    except ValidationError as error:
        raise ConfigError(f"The edit cannot be stored: {_reason(error)}.") from error
    connection.execute(f"INSERT INTO edits ({EDIT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    append_event(connection, "edit", {}, edit.id)
    return edit


def append_event(
    connection: sqlite3.Connection, kind: str, detail: Mapping[str, Any], edit: str | None = None
) -> Event:
    """Add an event at the end of the history.

    Raises:
        ConfigError: the detail is not plain JSON.
    """
    (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM events").fetchone()
    contents = (number, edit, kind, _json(kind, detail), _now())
    row = (*contents, _digest(*contents))
    connection.execute(f"INSERT INTO events ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row)
    return event_from_row(row)


def read_edits(connection: sqlite3.Connection, prefix: str = "") -> list[StoredEdit]:
    """The edits whose id begins with `prefix`, in commit order.

    Raises:
        StoreError: a row is damaged, or an edit that the history names is missing.
    """
    if not isinstance(prefix, str) or not prefix.isascii():  # ids are ASCII, and SQLite refuses lone surrogates
        return []
    kinds = state_kinds(connection, prefix)
    edits = [edit_from_row(row, kinds.get(row[1], [])) for row in edit_rows(connection, prefix)]
    if missing := sorted(kinds.keys() - {edit.id for edit in edits}, key=str):
        raise StoreError(
            f"Edit {missing[0]} is in the history but not among the edits; restore edits.sqlite from a copy."
        )
    return edits


def read_events(connection: sqlite3.Connection, edit: str | None = None) -> list[Event]:
    """All events, or those of one edit, in order.

    Raises:
        StoreError: a row is damaged, or the numbers of all events have a gap.
    """
    events = [event_from_row(row) for row in event_rows(connection, edit)]
    if edit is None and [event.number for event in events] != list(range(1, len(events) + 1)):
        raise StoreError("Some events of the history are missing; restore edits.sqlite from a copy.")
    return events


def read_base(connection: sqlite3.Connection) -> BaseIdentity:
    """The base that the store was made for, which its first event names.

    Raises:
        StoreError: there is no such event, or it is damaged.
    """
    row = connection.execute(f"SELECT {EVENT_COLUMNS} FROM events WHERE number = 1").fetchone()
    event = None if row is None else event_from_row(row)
    if event is None or event.kind != "create":
        raise StoreError("The store's first event, which names its base, is missing; restore edits.sqlite from a copy.")
    try:
        return _BASE.validate_python(event.detail)
    except ValidationError as error:
        raise StoreError(
            f"The store does not say which base it is for ({_reason(error)}); restore edits.sqlite from a copy."
        ) from error


def edit_rows(connection: sqlite3.Connection, prefix: str = "") -> list[tuple[Any, ...]]:
    """The unchecked rows of the edits whose id begins with `prefix`, in commit order."""
    # An empty prefix sets no condition on the id, so that a row with a damaged id is read and refused, not left out.
    query = f"SELECT {EDIT_COLUMNS} FROM edits WHERE ? = '' OR substr(id, 1, length(?)) = ? ORDER BY position"
    return connection.execute(query, (prefix, prefix, prefix)).fetchall()


def event_rows(connection: sqlite3.Connection, edit: str | None = None) -> list[tuple[Any, ...]]:
    """The unchecked rows of all events, or of those of one edit, in order."""
    query = f"SELECT {EVENT_COLUMNS} FROM events WHERE ? IS NULL OR edit = ? ORDER BY number"
    return connection.execute(query, (edit, edit)).fetchall()


def state_kinds(connection: sqlite3.Connection, prefix: str = "") -> dict[str, list[str]]:
    """By the id of each edit: the kinds of its events after which it is active or undone, in order."""
    kinds: dict[str, list[str]] = {}
    for edit, kind in connection.execute(
        "SELECT edit, kind FROM events WHERE substr(edit, 1, length(?)) = ? AND kind IN ('edit', 'undo', 'redo') "
        "ORDER BY number",
        (prefix, prefix),
    ):
        kinds.setdefault(edit, []).append(kind)
    return kinds


def edit_from_row(row: tuple[Any, ...], kinds: Sequence[str]) -> StoredEdit:
    """An edit from its row.

    Args:
        row: the columns of `EDIT_COLUMNS`.
        kinds: see `state_kinds`.

    Raises:
        StoreError: a column is damaged, the id is not the hash of the others, or the history contradicts `active`.
    """
    position, id, *_, active = row
    try:
        known = _edit(row)
        edit = replace(known, provenance=dict(known.provenance))  # what one reader writes into it, no other reads
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"Edit {id!r} at position {position} is damaged: {_reason(error)}; restore edits.sqlite from a copy."
        ) from error
    alternating = ["edit", *("undo" if number % 2 == 0 else "redo" for number in range(len(kinds) - 1))]
    if list(kinds) != alternating or active != len(kinds) % 2:
        raise StoreError(
            f"Edit {id} is {'active' if active else 'undone'}, which contradicts its history "
            f"({', '.join(kinds) or 'none'}); restore edits.sqlite from a copy."
        )
    return edit


def event_from_row(row: Sequence[Any]) -> Event:
    """An event from its row, the columns of `EVENT_COLUMNS`.

    Raises:
        StoreError: a column is damaged, or the digest is not that of the others.
    """
    try:
        if row[-1] != _digest(*row[:-1]):
            raise ValueError("its digest does not match")
        return _EVENT.validate_python(_named(EVENT_COLUMNS, row))
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"Event {row[0]!r} of the history is damaged: {_reason(error)}; restore edits.sqlite from a copy."
        ) from error


@cache
def _edit(row: tuple[Any, ...]) -> StoredEdit:
    """Raises TypeError (a blob is in the row) or ValueError (a ValidationError is one).

    A row that was read before is not checked again: each commit reads all of them, and the thousandth would take five
    times as long as the tenth (benchmarks/store_growth.py).
    """
    if row[1] != _digest(row[0], *row[2:6])[:ID_LENGTH]:
        raise ValueError("its id is not the hash of its contents")
    edit = _EDIT.validate_python(_named(EDIT_COLUMNS, row))
    if "form" in json.loads(row[2]):
        return edit
    return replace(edit, request=replace(edit.request, form="bare"))  # all that earlier versions asked in


def _named(columns: str, row: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(columns.split(", "), row, strict=True))


def _digest(*columns: str | int | None) -> str:
    return hashlib.sha256(json.dumps(columns, separators=(",", ":")).encode()).hexdigest()


def _json(what: str, value: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False, sort_keys=True)
        text.encode()  # raises for a lone surrogate
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"The {what} of an edit must be plain JSON: {error}.") from error
    return text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _reason(error: Exception) -> str:
    """The first thing that is wrong, with the name of the column or field it is in."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return shortened(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    return str(error)
