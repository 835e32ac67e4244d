"""What the tests of a store look at, and how they damage it."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from roselora.editing.store import schema
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.edit_store import EditStore

REMARKS = "CREATE TABLE remarks (text TEXT); INSERT INTO remarks VALUES ('one'); INSERT INTO remarks VALUES ('two')"
"""A migration that no released version has."""


def content(store: EditStore) -> tuple[Any, ...]:
    return store.base, store.edits(), store.history()


def run_sql(store: EditStore, *statements: str) -> None:
    with closing(sqlite3.connect(store.folder / "edits.sqlite")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def file_of(store: EditStore, edit: StoredEdit) -> Path:
    return store.folder / "deltas" / f"{edit.delta_sha256}.safetensors"


def assert_harmful(store: EditStore, message: str) -> None:
    problems = store.verify()
    assert problems
    assert any(re.search(message, problem.what) and not problem.harmless for problem in problems), problems


def state(folder: Path) -> Any:
    """What a user can see of a store, without times; None where there is none."""
    if not (folder / "edits.sqlite").exists():
        return None
    store = EditStore.open(folder)
    edits = [(edit.position, edit.request, edit.delta_sha256, edit.active, edit.provenance) for edit in store.edits()]
    for edit in store.edits():
        store.delta(edit.id)
    return edits, [(event.kind, event.detail) for event in store.history()], version(folder)


def version(folder: Path) -> tuple[int, list[tuple[str]]]:
    with schema.transaction(folder / "edits.sqlite") as connection:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        remarks = connection.execute("SELECT text FROM remarks").fetchall() if number == 2 else []
    return number, remarks
