"""The database's errors in words, and its migrations."""

import sqlite3
from typing import Any

import pytest

from roselora.editing.store import schema
from roselora.editing.store.edit_store import EditStore
from roselora.errors import StoreError
from tests.editing.store.contents import REMARKS, state, version


def test_the_errors_of_sqlite_say_what_to_do(store: EditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.0)
    other = sqlite3.connect(store.folder / "edits.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"edits\.sqlite is in use by another program; close that and try again"):
        store.edits()
    other.execute("ROLLBACK")
    other.execute("PRAGMA max_page_count = 1")
    other.close()
    pages = (store.folder / "edits.sqlite").stat().st_size // 4096

    class Small(sqlite3.Connection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.execute(f"PRAGMA max_page_count = {pages}")

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Small, **options))
    before = state(store.folder)
    id = store.edits()[0].id
    with store.writing(), pytest.raises(StoreError, match="because the disk is full; free some space and try again"):
        store.note(id, "long " * 20_000)
    assert state(store.folder) == before


def test_a_migration_brings_an_old_store_up_and_an_older_roselora_then_refuses_it(
    store: EditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits, history = store.edits(), store.history()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, REMARKS))
        assert [problem.what for problem in store.verify()] == [
            f"{store.folder / 'edits.sqlite'} has an old schema; open the store again to upgrade it."
        ]
        newer = EditStore.open(store.folder)
        assert version(store.folder) == (2, [("one",), ("two",)])
        assert (newer.edits(), newer.history(), newer.verify()) == (edits, history, [])
        assert version(EditStore.open(store.folder).folder) == (2, [("one",), ("two",)])
    with pytest.raises(StoreError, match="has schema 2, and this roselora knows 1"):
        EditStore.open(store.folder)


def test_a_migration_that_fails_leaves_the_old_schema(store: EditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(store.folder)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, REMARKS + "; INSERT INTO nowhere VALUES (1)"))
        with pytest.raises(StoreError, match="no such table: nowhere"):
            EditStore.open(store.folder)
    assert state(store.folder) == before
    assert store.verify() == []
