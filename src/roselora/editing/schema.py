"""The edit store's database: its tables as numbered migrations, its transactions, and what its failures mean.

The columns are explained in docs/file-formats.md.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from roselora.errors import StoreError

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

_WRITING = ("BEGIN IMMEDIATE",)
_READING = ("PRAGMA query_only = ON", "BEGIN", "SELECT count(*) FROM sqlite_master")
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

    A reading block sees one state of the database from its first query to its end, and cannot write.

    Raises:
        StoreError: SQLite or the file system failed; the database is as it was before.
    """
    with store_errors(database):
        begun = _begin(database, _WRITING, busy_seconds=BUSY_SECONDS) if write else _begin_reading(database)
        with contextlib.closing(begun) as connection:
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
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or version < 1:
        raise StoreError(f"{database} is not a roselora edit store; name another folder.")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{database} has schema {version}, and this roselora knows {len(MIGRATIONS)}; use a newer roselora."
        )
    return bool(version < len(MIGRATIONS))


def table_definitions(connection: sqlite3.Connection) -> set[tuple[str, str | None]]:
    """Name and SQL of every table, index, view and trigger that SQLite did not make for itself."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'")
    return set(rows.fetchall())


def expected_definitions() -> set[tuple[str, str | None]]:
    """What `table_definitions` gives for an undamaged store."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(";".join(MIGRATIONS))
        return table_definitions(connection)


def _begin(database: Path, statements: tuple[str, ...], *, busy_seconds: float) -> sqlite3.Connection:
    connection = _connect(database, busy_seconds=busy_seconds)
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
            return _begin(database, _READING, busy_seconds=0.0)
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _connect(database: Path, *, mode: str = "rw", busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection in which transactions begin and end only where we say so."""
    uri = f"{database.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)
    try:
        # The rollback journal, not the write-ahead log. The log needs shared memory, so it is unsafe when two hosts
        # of a cluster use one network folder, which is how many of our users work; it makes readers write to the
        # folder, so a store on a read-only disk needs special care; and after a crash the newest edits would lie
        # outside edits.sqlite, where a copy of that file misses them. What the log would give is readers that need
        # not wait for a commit. Our transactions are a few rows, all of them written at the commit (cache_spill),
        # so that wait is some milliseconds, and until the commit readers and the writer don't meet.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA cache_spill = OFF")
        # EXTRA also flushes the folder after the journal is removed: a commit that we reported survives a power cut.
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA foreign_keys = ON")
        # The file may come from anyone: no functions with side effects in its schema, no trust in its page layout.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection
