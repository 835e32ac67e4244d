"""The edit store's database: its tables as numbered migrations, its transactions, and what its failures mean.

The columns are explained in docs/file-formats.md.
"""

import contextlib
import functools
import itertools
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roselora.errors import StoreError
from roselora.files import require_regular

APPLICATION_ID = 0x526F7365
"""Stands in the database's header and tells it from other SQLite files; "Rose" in ASCII."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE edits (
        position INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        request TEXT NOT NULL,
        delta_sha256 TEXT NOT NULL,
        provenance TEXT NOT NULL,
        created TEXT NOT NULL,
        active INTEGER NOT NULL CHECK (active IN (0, 1))
    );
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        edit TEXT REFERENCES edits (id),
        kind TEXT NOT NULL,
        detail TEXT NOT NULL,
        time TEXT NOT NULL,
        digest TEXT NOT NULL
    );
    CREATE INDEX events_of_an_edit ON events (edit);
    """,
)
"""Script n brings a database of schema number n to n + 1. Never change one that was released; add another."""

BUSY_SECONDS = 10.0
"""How long to wait for a commit in another process to end; commits take milliseconds."""

POLL_SECONDS = 0.001

STEPS, STEPS_PER_BYTE = 1_000_000, 10
"""How many steps of SQLite's machine one transaction may take at most, for the database and for each byte of it.

Reading, checking and writing a whole store take about one a byte. A damaged or hostile file can ask for any number.
"""

_COUNTED = 100_000

SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""Ends a journal that names another file, which SQLite may delete; ours are of one database and name none."""

_WRITING = ("BEGIN IMMEDIATE",)
_READING = ("BEGIN", "SELECT count(*) FROM sqlite_master")
_LEFT_HALFWAY = (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY)
_CAUSES = {
    sqlite3.SQLITE_FULL: "cannot be written, for the disk is full; free some space and try again",
    sqlite3.SQLITE_READONLY: "cannot be written; give yourself write permission for it and its folder",
    sqlite3.SQLITE_READONLY_ROLLBACK: "was left in the middle of a write; open it once where it may be written",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the permissions of it and its folder",
    sqlite3.SQLITE_PERM: "cannot be opened; check the permissions of it and its folder",
    sqlite3.SQLITE_BUSY: "is in use by another program; close that and try again",
    sqlite3.SQLITE_CORRUPT: "is damaged; put a copy of it back",
    sqlite3.SQLITE_NOTADB: "is damaged, or no database at all; put a copy of it back",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk",
    sqlite3.SQLITE_INTERRUPT: "takes more work than a store of its size can, so it is damaged; put a copy of it back",
}


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn every failure of SQLite or of the file system in the block into a StoreError about `path`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        cause = _CAUSES.get(code) or _CAUSES.get(code & 0xFF) or "cannot be used; put a copy of it back"
        raise StoreError(f"{path} {cause} ({error}).") from error
    except UnicodeDecodeError as error:
        # Damage can reach the text of SQLite's own message, which Python's sqlite3 then fails to read.
        raise StoreError(f"{path} is damaged; put a copy of it back.") from error
    except OSError as error:
        where = error.filename or path
        raise StoreError(f"{where} cannot be used: {error.strerror or error}; mend that and try again.") from error


@contextlib.contextmanager
def transaction(database: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """One transaction on a connection of its own: committed at the end of the block, undone by any exception.

    A reading block sees one state of the database from its first query to its end, and cannot write. The tables are
    ours, and nothing else is there: no trigger, view or column of someone else's runs.

    Raises:
        StoreError: this is no edit store, or a newer roselora made it, or SQLite or the file system failed; the
            database is as it was before.
    """
    with store_errors(database):
        if not database.exists():
            raise StoreError(f"There is no edit store in {database.parent} any more; was it moved?")
        begun = _begin(database, _WRITING, busy_seconds=BUSY_SECONDS) if write else _begin_reading(database)
        with contextlib.closing(begun) as connection:
            _require_ours(connection, database)
            yield connection
            # Closing a connection undoes what it has not committed: nothing else is needed after an exception.
            connection.execute("COMMIT")


def create(database: Path) -> None:
    """Make a database with the newest schema and no rows, at a path where there is none.

    Raises:
        StoreError: SQLite or the file system failed.
    """
    with store_errors(database), contextlib.closing(_connect(database, mode="rwc")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    migrate(database)


def migrate(database: Path) -> None:
    """Apply the migrations that are missing, each in its own transaction; the caller holds the writer lock.

    Raises:
        StoreError: SQLite or the file system failed; the migrations before that one are in.
    """
    with store_errors(database), contextlib.closing(_connect(database)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def is_outdated(database: Path) -> bool:
    """Whether there are migrations to apply.

    Raises:
        StoreError: this is no edit store, or a newer roselora made it, or SQLite failed.
    """
    with transaction(database) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version < len(MIGRATIONS))


def _require_ours(connection: sqlite3.Connection, database: Path) -> None:
    """Refuse a database that is not defined word for word as its schema's number says."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or version < 1:
        raise StoreError(f"{database} is not a roselora edit store; name another folder.")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{database} has schema {version}, and this roselora knows {len(MIGRATIONS)}; use a newer roselora."
        )
    if _definitions(connection) != _expected(MIGRATIONS[:version]):
        raise StoreError(f"The tables of {database} are not defined as roselora defines them; put a copy of it back.")


def _definitions(connection: sqlite3.Connection) -> frozenset[tuple[str | None, ...]]:
    """Type, name, table and SQL of all that is defined: tables, indexes, views, triggers."""
    return frozenset(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall())


@functools.cache
def _expected(migrations: tuple[str, ...]) -> frozenset[tuple[str | None, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(";".join(migrations))
        return _definitions(connection)


def _begin(database: Path, statements: tuple[str, ...], **how: Any) -> sqlite3.Connection:
    connection = _connect(database, **how)
    try:
        for statement in statements:
            connection.execute(statement).fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_reading(database: Path) -> sqlite3.Connection:
    """A connection that holds SQLite's shared lock, with which no query has to wait for a writer."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            # SQLite's own waiting sleeps longer and longer, and so misses the gaps of a writer that commits one change
            # after the other: a reader then waited for seconds. Asking each millisecond it gets in between two commits.
            return _begin(database, _READING, mode="ro", busy_seconds=0.0)
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if time.monotonic() > deadline or not (code in _LEFT_HALFWAY or code & 0xFF == sqlite3.SQLITE_BUSY):
                raise
            if code in _LEFT_HALFWAY:  # by a crash; whoever may write takes the unfinished change back
                _begin(database, _WRITING, busy_seconds=BUSY_SECONDS).close()
        time.sleep(POLL_SECONDS)


def _connect(database: Path, *, mode: str = "rw", busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection in which transactions begin and end only where we say so."""
    steps = STEPS + STEPS_PER_BYTE * _require_own_files(database)
    uri = f"{database.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)
    try:
        # The rollback journal, not the write-ahead log. The log needs shared memory, so it is unsafe when two hosts
        # of a cluster use one network folder, which is how many of our users work; it makes readers write to the
        # folder, so a store on a read-only disk needs special care; and after a crash the newest edits would lie
        # outside edits.sqlite, where a copy of that file misses them. What the log would give is readers that need
        # not wait for a commit. Our transactions are a few rows, all of them written at the commit (cache_spill),
        # so that wait is some milliseconds, and until the commit readers and the writer don't meet.
        if mode != "ro":
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA cache_spill = OFF")
        # EXTRA also flushes the folder after the journal is removed: a commit that we reported survives a power cut.
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA foreign_keys = ON")
        # The file may come from anyone: no functions with side effects in its schema, no trust in its page layout.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        ticks = itertools.count(1)
        connection.set_progress_handler(lambda: next(ticks) * _COUNTED > steps, _COUNTED)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_own_files(database: Path) -> int:
    """Refuse a database with files beside it that would lead SQLite to others; returns the size of all in bytes.

    Raises:
        OSError: one of them is a link, through which SQLite would write, or no file.
        StoreError: a journal names another file, which SQLite would delete.
    """
    size = 0
    for name in ("", "-journal", "-wal", "-shm"):
        path = database.with_name(database.name + name)
        with contextlib.suppress(FileNotFoundError):
            size += require_regular(path).st_size
    journal = database.with_name(f"{database.name}-journal")
    with contextlib.suppress(FileNotFoundError), open(journal, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(SUPER_JOURNAL)))
        if file.read() == SUPER_JOURNAL:
            raise StoreError(f"{journal} names another file, and no store's does; put a copy of the store back.")
    return size
