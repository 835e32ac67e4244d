"""Whether an edit store is intact: its database, its delta files, and files that no edit refers to."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roselora.editing.store.delta_files import delta_path, read_delta, removable_files
from roselora.editing.store.edit_rows import (
    edit_from_row,
    edit_rows,
    event_from_row,
    event_rows,
    read_base,
    state_kinds,
)
from roselora.editing.store.schema import is_outdated, store_errors, transaction
from roselora.errors import FileFormatError, StoreError


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it should be.

    Attributes:
        path: the file that it is about.
        what: one sentence.
        harmless: True for a file that no edit refers to, or that is being written now; `collect_orphans` removes it.
    """

    path: Path
    what: str
    harmless: bool = False


def verify_store(database: Path, deltas: Path) -> list[Problem]:
    """Everything that is wrong with a store; other processes may use it meanwhile."""
    try:
        # List the files before reading the rows: the file of an edit that is committed in between is then not listed,
        # and so not taken for an orphan.
        with store_errors(deltas):
            orphans = removable_files(database, deltas)
        if is_outdated(database):
            return [Problem(database, f"{database} has an old schema; open the store again to upgrade it.")]
        with transaction(database) as connection:
            complaints = _database_problems(connection)
            rows = connection.execute("SELECT DISTINCT delta_sha256 FROM edits ORDER BY delta_sha256").fetchall()
    except StoreError as error:
        return [Problem(database, str(error))]
    if complaints:
        # A damaged database cannot tell which files its edits need, so none is called an orphan or missing.
        return [Problem(database, complaint) for complaint in complaints]
    problems = []
    for (sha256,) in rows:
        path = delta_path(deltas, sha256)
        orphans.discard(path)
        try:
            read_delta(deltas, sha256)
        except FileFormatError as error:
            problems.append(Problem(path, str(error)))
    return problems + [Problem(path, f"{path} belongs to no edit.", harmless=True) for path in sorted(orphans)]


def _database_problems(connection: sqlite3.Connection) -> list[str]:
    complaints = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
        complaints.append(f"Row {row} of {table} refers to one of {parent} that is not there.")
    complaints += _complaint(read_base, connection)
    for number, event in enumerate(event_rows(connection), start=1):
        complaints += _complaint(event_from_row, event) + _gap("event", number, event)
    kinds = state_kinds(connection)
    for number, edit in enumerate(edit_rows(connection), start=1):
        complaints += _complaint(edit_from_row, edit, kinds.get(edit[1], [])) + _gap("edit", number, edit)
    return complaints


def _complaint(check: Callable[..., Any], *arguments: Any) -> list[str]:
    try:
        check(*arguments)
    except StoreError as error:
        return [str(error)]
    return []


def _gap(what: str, expected: int, row: Sequence[Any]) -> list[str]:
    return [] if row[0] == expected else [f"{what.capitalize()} {expected} is missing: {row[0]!r} is in its place."]
