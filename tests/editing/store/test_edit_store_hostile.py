"""A store that came from someone else: no link in it is followed, nothing in its database runs, and nothing hangs."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.request import EditRequest
from roselora.editing.store import schema
from roselora.editing.store.edit_store import EditStore
from roselora.errors import FileFormatError, StoreError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links are POSIX")
Deltas = Callable[[float], SparseDelta]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file of the user's that no store may touch."""
    path = tmp_path / "mine"
    path.write_bytes(b"precious")
    return path


def work(store: EditStore, delta: SparseDelta) -> None:
    """All that is done with a store."""
    opened = EditStore.open(store.folder)
    with opened.writing():
        opened.undo(opened.active()[0].id)
        opened.add(EditRequest("New", "so"), delta, {})
        opened.collect_orphans()


def test_promise_6_a_link_as_the_locks_holder_is_replaced_and_never_written_through(
    store: EditStore, small_delta: Deltas, mine: Path
) -> None:
    (store.folder / "lock.holder").symlink_to(mine)
    work(store, small_delta(9))
    assert mine.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["lock", "edits.sqlite", "edits.sqlite-journal", "edits.sqlite-wal", "deltas"])
@pytest.mark.parametrize("dangling", [False, True], ids=["there", "dangling"])
def test_promise_6_a_link_in_a_store_is_refused_by_name_and_what_it_points_to_stays(
    store: EditStore, small_delta: Deltas, mine: Path, name: str, dangling: bool
) -> None:
    place, target = store.folder / name, mine.with_name("elsewhere")
    if place.exists():
        place.rename(target)
    else:
        target.write_bytes(b"")
    if dangling:
        target.rename(mine.with_name("moved"))
    place.symlink_to(target)
    with pytest.raises(StoreError, match=r"symbolic link|There is no edit store"):
        work(store, small_delta(9))
    assert target.exists() != dangling
    if not dangling:
        place.unlink()
        target.rename(place) if name != "edits.sqlite-journal" else target.unlink()
        assert len(EditStore.open(store.folder).edits()) == 3
        assert [problem for problem in store.verify() if not problem.harmless] == []


def test_promise_6_deltas_outside_are_neither_collected_nor_called_ours(store: EditStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.move(store.folder / "deltas", outside)
    precious = outside / f"{'0' * 64}.safetensors"
    precious.write_bytes(b"precious")
    (store.folder / "deltas").symlink_to(outside)
    assert any("symbolic link" in problem.what and not problem.harmless for problem in store.verify())
    with store.writing(), pytest.raises(StoreError, match="symbolic link"):
        store.collect_orphans()
    with pytest.raises(FileFormatError, match="symbolic link"):
        store.delta(store.edits()[0].id)
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_a_delta_that_is_no_ordinary_file_is_refused_and_not_waited_for(
    store: EditStore, tmp_path: Path, what: str
) -> None:
    edit = store.edits()[0]
    path = store.folder / "deltas" / f"{edit.delta_sha256}.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere") if what == "link" else os.mkfifo(path)
    with pytest.raises(FileFormatError, match="symbolic link" if what == "link" else "not a regular file"):
        store.delta(edit.id)
    assert any(not problem.harmless for problem in store.verify())


def test_a_store_may_lie_behind_a_link_that_the_user_names(
    store: EditStore, small_delta: Deltas, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(store.folder)
    work(EditStore.open(tmp_path / "link"), small_delta(9))
    assert len(store.edits()) == 4


HOSTILE = {
    "trigger on undo": "CREATE TRIGGER spy AFTER UPDATE ON edits BEGIN DELETE FROM events; END",
    "trigger on add": "CREATE TRIGGER spy AFTER INSERT ON edits BEGIN UPDATE edits SET active = 0; END",
    "another table": "CREATE TABLE more (x)",
    "another index": "CREATE INDEX more ON edits (length(provenance))",
    "endless view": """
        ALTER TABLE events RENAME TO own;
        CREATE VIEW events AS WITH RECURSIVE endless (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless)
        SELECT n AS number, NULL AS edit, 'edit' AS kind, '{}' AS detail, '' AS time, '' AS digest FROM endless
    """,
    "generated column": "ALTER TABLE edits ADD COLUMN more TEXT AS (hex(zeroblob(100000000)))",
    "a hidden trigger": """
        CREATE TRIGGER spy AFTER UPDATE ON edits BEGIN DELETE FROM events; END;
        PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET name = 'sqlite_spy', sql = replace(sql, 'spy', 'sqlite_spy') WHERE name = 'spy'
    """,
}


@pytest.mark.parametrize("script", HOSTILE.values(), ids=HOSTILE.keys())
def test_promise_2_a_database_that_defines_more_than_a_store_does_is_refused_before_anything_of_it_runs(
    store: EditStore, small_delta: Deltas, script: str
) -> None:
    database = store.folder / "edits.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script)
    before = database.read_bytes()
    for use in (store.edits, store.history, lambda: work(store, small_delta(9)), lambda: store.base):
        with pytest.raises(StoreError, match="not defined as roselora defines them"):
            use()
    with store.writing(), pytest.raises(StoreError, match="not defined as"):
        store.undo("a")
    assert any("not defined as" in problem.what for problem in store.verify())
    assert database.read_bytes() == before


def test_a_query_without_end_is_ended(store: EditStore) -> None:
    endless = "WITH RECURSIVE endless (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless) SELECT max(n) FROM endless"
    for write in (False, True):
        with (
            pytest.raises(StoreError, match="more work than its size can need"),
            schema.transaction(store.folder / "edits.sqlite", write=write) as connection,
        ):
            connection.execute(endless).fetchall()


def test_reading_a_store_in_write_ahead_mode_changes_no_byte_of_it(store: EditStore, small_delta: Deltas) -> None:
    database = store.folder / "edits.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    before = database.read_bytes()
    assert len(EditStore.open(store.folder).edits()) == 3
    assert store.verify() == []
    assert database.read_bytes() == before
    work(store, small_delta(9))
    assert len(store.edits()) == 4


def test_promise_6_a_journal_that_names_another_file_is_refused_for_sqlite_would_delete_that(
    store: EditStore, mine: Path
) -> None:
    """A journal left by a transaction over two databases ends in the name of a third file, which is removed at last."""
    database, journal = store.folder / "edits.sqlite", store.folder / "edits.sqlite-journal"
    writer = sqlite3.connect(database, isolation_level=None)
    writer.executescript(
        "PRAGMA cache_size = 1; PRAGMA synchronous = FULL; BEGIN; UPDATE events SET detail = hex(zeroblob(9000))"
    )
    left = journal.read_bytes()
    halfway = database.read_bytes()
    writer.execute("ROLLBACK")
    writer.close()
    name = str(mine).encode()
    tail = name + len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big") + schema.SUPER_JOURNAL
    database.write_bytes(halfway)
    journal.write_bytes(left + (0x40000000 // 4096 + 1).to_bytes(4, "big") + tail)
    with pytest.raises(StoreError, match="names another file"):
        store.edits()
    assert mine.read_bytes() == b"precious"
    journal.write_bytes(left)
    assert len(store.edits()) == 3


def test_a_store_that_was_moved_is_not_written_at_its_old_place(store: EditStore, tmp_path: Path) -> None:
    shutil.move(store.folder, tmp_path / "moved")
    with pytest.raises(StoreError, match=r"no edit store in .* any more"), store.writing():
        pass
    with pytest.raises(StoreError, match=r"no edit store in .* any more"):
        store.edits()
    assert not store.folder.exists()
    assert len(EditStore.open(tmp_path / "moved").edits()) == 3
