"""Whether an edit store is whole: its database, its delta files, and what no edit refers to."""

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roselora.delta import delta_file as io
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.store.edit_records import (
    EDIT_COLUMNS,
    EVENT_COLUMNS,
    STATE_KINDS,
    edit_from_row,
    event_from_row,
    read_base,
)
from roselora.editing.store.schema import is_outdated, store_errors, transaction
from roselora.errors import FileFormatError, StoreError
from roselora.files import is_temporary, read_regular, refuse_link


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it should be.

    Attributes:
        path: the file that it is about.
        what: one sentence.
        harmless: True for a file that no edit refers to, or that is just being written; collecting orphans removes it.
    """

    path: Path
    what: str
    harmless: bool = False


def verify_store(database: Path, deltas: Path) -> list[Problem]:
    """Everything that is wrong with a store; it may be in use meanwhile."""
    try:
        # The files are listed before the rows are read: what an edit that is committed in between refers to is no
        # orphan.
        with store_errors(deltas):
            orphans = set(left_over_files(database, deltas))
        if is_outdated(database):
            return [Problem(database, f"{database} has an old schema; open the store again to upgrade it.")]
        with transaction(database) as connection:
            complaints = _database_problems(connection)
            rows = connection.execute("SELECT DISTINCT delta_sha256 FROM edits ORDER BY delta_sha256").fetchall()
    except StoreError as error:
        return [Problem(database, str(error))]
    if complaints:
        # Which files the edits refer to is not certain now, so none may be called an orphan or missing.
        return [Problem(database, complaint) for complaint in complaints]
    problems = []
    for (sha256,) in rows:
        path = delta_path(deltas, sha256)
        orphans.discard(path)
        try:
            read_delta(path, sha256)
        except FileFormatError as error:
            problems.append(Problem(path, str(error)))
    return problems + [Problem(path, f"{path} belongs to no edit.", harmless=True) for path in sorted(orphans)]


def delta_path(deltas: Path, sha256: str) -> Path:
    """Where the delta with this hash lies."""
    return deltas / f"{sha256}.safetensors"


def read_delta(path: Path, sha256: str) -> SparseDelta:
    """The delta in the file at `path`, of which every byte is what was written.

    Raises:
        FileFormatError: the file is missing or a link, has another SHA-256 or is not a delta.
    """
    try:
        refuse_link(path.parent)
        data = read_regular(path)
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror or error}; put a copy of it back.") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise FileFormatError(f"{path} is damaged: its SHA-256 is not its name; put a copy of it back.")
    return io.decode(data, str(path))


def left_over_files(database: Path, deltas: Path) -> list[Path]:
    """Every delta file, and every temporary file that a killed process left; other people's files are not ours.

    Raises:
        OSError: the folder of deltas is a link, so what lies there is not the store's.
    """
    refuse_link(deltas)
    files = [*database.parent.glob(".*.tmp"), *deltas.glob(".*.tmp")]
    temporary = [path for path in files if is_temporary(path)]
    named_by_hash = [path for path in deltas.glob("*.safetensors") if len(path.stem) == 64]
    return [path for path in temporary + named_by_hash if path.is_file()]


def _database_problems(connection: sqlite3.Connection) -> list[str]:
    complaints = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
        complaints.append(f"Row {row} of {table} refers to one of {parent} that is not there.")
    complaints += _complaint(read_base, connection)
    events = connection.execute(f"SELECT {EVENT_COLUMNS} FROM events ORDER BY number").fetchall()
    edits = connection.execute(f"SELECT {EDIT_COLUMNS} FROM edits ORDER BY position").fetchall()
    for number, event in enumerate(events, start=1):
        complaints += _complaint(event_from_row, event) + _gap("event", number, event)
    kinds: dict[Any, list[str]] = {}
    for _, of, kind, *_ in events:
        if kind in STATE_KINDS:
            kinds.setdefault(of, []).append(kind)
    for number, edit in enumerate(edits, start=1):
        complaints += _complaint(edit_from_row, edit, kinds.get(edit[1], [])) + _gap("edit", number, edit)
    return complaints


def _complaint(check: Callable[..., Any], *arguments: Any) -> list[str]:
    try:
        check(*arguments)
    except StoreError as error:
        return [str(error)]
    return []


def _gap(what: str, expected: int, row: Sequence[Any]) -> list[str]:
    return [] if row[0] == expected else [f"In the place of {what} {expected} stands {what} {row[0]!r}."]
