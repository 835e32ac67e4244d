"""The edit store's database: its tables as numbered migrations, its transactions, and its errors in words.

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
"""In the database's header, to tell it from other SQLite files; "Rose" in ASCII."""

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
"""Script n upgrades a database from schema n to n + 1. Never change a released one; add another."""

BUSY_SECONDS = 10.0
"""How long to wait for another process to commit; a commit takes milliseconds."""

POLL_SECONDS = 0.001

STEPS, STEPS_PER_BYTE = 1_000_000, 10
"""The most steps of SQLite's virtual machine that a transaction may take: for the database, and for each byte of it.

Reading, checking and writing a whole store take about one step a byte. A damaged or hostile file can demand any number.
"""

STEPS_PER_CALL = 100_000
"""SQLite calls us back after this many steps, to let us count them."""

SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""The last bytes of a journal that names another file, which SQLite may delete. Ours never name one."""

_WRITING = ("BEGIN IMMEDIATE",)
_READING = ("BEGIN", "SELECT count(*) FROM sqlite_master")
_LEFT_HALFWAY = (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY)
_CAUSES = {
    sqlite3.SQLITE_FULL: "cannot be written, because the disk is full; free some space and try again",
    sqlite3.SQLITE_READONLY: "cannot be written; give yourself write permission for it and its folder",
    sqlite3.SQLITE_READONLY_ROLLBACK: "was left in the middle of a write; open it once where you may write to it",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the permissions of it and its folder",
    sqlite3.SQLITE_PERM: "cannot be opened; check the permissions of it and its folder",
    sqlite3.SQLITE_BUSY: "is in use by another program; close that and try again",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore it from a copy",
    sqlite3.SQLITE_NOTADB: "is damaged, or is not a database; restore it from a copy",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk",
    sqlite3.SQLITE_INTERRUPT: "takes more work than its size can need, so it is damaged; restore it from a copy",
}


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn every failure of SQLite or of the file system in the block into a StoreError about `path`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        cause = _CAUSES.get(code) or _CAUSES.get(code & 0xFF) or "cannot be used; restore it from a copy"
        raise StoreError(f"{path} {cause} ({error}).") from error
    except UnicodeDecodeError as error:
        # Damage can reach the text of SQLite's own message, which Python's sqlite3 then fails to read.
        raise StoreError(f"{path} is damaged; restore it from a copy.") from error
    except OSError as error:
        where = error.filename or path
        raise StoreError(f"{where} cannot be used: {error.strerror or error}; fix that and try again.") from error


@contextlib.contextmanager
def transaction(database: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """One transaction on a connection of its own: committed at the end of the block, rolled back by any exception.

    A reading block sees one state of the database from its first query to its end, and cannot write. The schema is
    compared with ours first, so no trigger, view or generated column of someone else's ever runs.

    Raises:
        StoreError: this is no edit store, a newer roselora made it, or SQLite or the file system failed; the database
            is unchanged.
    """
    with store_errors(database):
        if not database.exists():
            raise StoreError(f"There is no edit store in {database.parent} any more; was it moved?")
        begun = _begin(database, _WRITING, busy_seconds=BUSY_SECONDS) if write else _begin_reading(database)
        with contextlib.closing(begun) as connection:
            _require_ours(connection, database)
            yield connection
            # After an exception, closing the connection rolls back what was not committed.
            connection.execute("COMMIT")


def create(database: Path) -> None:
    """Make an empty database with the newest schema, at a path where there is none.

    Raises:
        StoreError: SQLite or the file system failed.
    """
    with store_errors(database), contextlib.closing(_connect(database, mode="rwc")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    migrate(database)


def migrate(database: Path) -> None:
    """Apply the missing migrations, each in its own transaction; the caller holds the writer lock.

    Raises:
        StoreError: SQLite or the file system failed; the migrations before that stay applied.
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
    """Refuse a database whose definitions are not, word for word, those of its schema number."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or version < 1:
        raise StoreError(f"{database} is not a roselora edit store; name another folder.")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{database} has schema {version}, and this roselora knows {len(MIGRATIONS)}; use a newer roselora."
        )
    if _definitions(connection) != _expected(MIGRATIONS[:version]):
        raise StoreError(f"The tables of {database} are not defined as roselora defines them; restore it from a copy.")


def _definitions(connection: sqlite3.Connection) -> frozenset[tuple[str | None, ...]]:
    """Type, name, table and SQL of every table, index, view and trigger."""
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
    """A connection that holds SQLite's shared lock already, so that no later query must wait for a writer."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            # SQLite's own waiting sleeps longer and longer, so it misses the gaps of a writer that commits one change
            # after the other, and a reader waited for seconds. Asking every millisecond finds a gap.
            return _begin(database, _READING, mode="ro", busy_seconds=0.0)
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if time.monotonic() > deadline or not (code in _LEFT_HALFWAY or code & 0xFF == sqlite3.SQLITE_BUSY):
                raise
            if code in _LEFT_HALFWAY:  # a crashed writer left a journal; a connection that may write rolls it back
                _begin(database, _WRITING, busy_seconds=BUSY_SECONDS).close()
        time.sleep(POLL_SECONDS)


def _connect(database: Path, *, mode: str = "rw", busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection in which transactions begin and end only where we write BEGIN and COMMIT."""
    steps = STEPS + STEPS_PER_BYTE * _require_own_files(database)
    uri = f"{database.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)
    try:
        # The rollback journal, not the write-ahead log, for three reasons. The log needs shared memory, so it is unsafe
        # if two hosts of a cluster use one network folder, as many of our users do. It makes readers write to the
        # folder, which a read-only disk refuses. And after a crash the newest edits would lie outside edits.sqlite,
        # where a copy of that file misses them. With the log, readers would never wait for a commit; but our
        # transactions are a few rows, all written at the commit (cache_spill), so that wait is a few milliseconds.
        if mode != "ro":
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA cache_spill = OFF")
        # EXTRA also flushes the folder after the journal is removed, so a commit that we reported survives a power cut.
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA foreign_keys = ON")
        # The file may come from anyone: allow no functions with side effects in its schema, and check its page layout.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        calls = itertools.count(1)
        connection.set_progress_handler(lambda: next(calls) * STEPS_PER_CALL > steps, STEPS_PER_CALL)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_own_files(database: Path) -> int:
    """Refuse a database if it, or a file beside it, would lead SQLite to other files; returns the size of all in bytes.

    Raises:
        OSError: one of them is a link, through which SQLite would write, or no ordinary file.
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
            raise StoreError(f"{journal} names another file, which no store's does; restore the store from a copy.")
    return size
