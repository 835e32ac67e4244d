"""The edit store's database: its tables, its numbered migrations, and how it is opened.

The journal is SQLite's default rollback journal, not a write-ahead log: at rest the database is one file, it can be
read in a folder without write permission, and since a transaction here is a few rows, readers wait for milliseconds.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roselora.errors import StoreError

APPLICATION_ID = 0x524F5345
"""What SQLite's header holds to say whose file it is: "ROSE"."""

BUSY_SECONDS = 10.0

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE base (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        name TEXT NOT NULL,
        architecture TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        created TEXT NOT NULL
    );
    CREATE TABLE edits (
        id TEXT PRIMARY KEY,
        position INTEGER NOT NULL UNIQUE,
        active INTEGER NOT NULL CHECK (active IN (0, 1)),
        created TEXT NOT NULL,
        delta_sha256 TEXT NOT NULL,
        request TEXT NOT NULL,
        provenance TEXT NOT NULL
    );
    CREATE TABLE events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        edit_id TEXT REFERENCES edits (id),
        kind TEXT NOT NULL CHECK (kind IN ('edit', 'undo', 'redo', 'note', 'force')),
        time TEXT NOT NULL,
        text TEXT
    );
    """,
)
"""Script n brings a database from version n to n + 1; a landed one is never changed."""


@contextmanager
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, with foreign keys on and every commit flushed to the disk.

    Raises:
        StoreError: SQLite cannot open, read or write it.
    """
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
        try:
            database.isolation_level = None  # transactions are begun by `transaction` alone
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA synchronous = FULL")
            yield database
        finally:
            database.close()
    except sqlite3.Error as error:
        raise StoreError(
            f"{path} cannot be used ({error}); see that the disk is writable and not full, and that the file is whole."
        ) from error


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All that is executed inside, or nothing of it."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.rollback()
        raise
    database.commit()


def create(path: Path, base: tuple[str, str, str], created: str) -> None:
    """A new database for one base (name, architecture, sha256), whole or not there at all.

    Raises:
        StoreError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        with connection(temporary) as database:
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(database)
            with transaction(database):
                database.execute("INSERT INTO base VALUES (1, ?, ?, ?, ?)", (*base, created))
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"{path} cannot be made ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def require_known(path: Path) -> int:
    """The version of an existing database.

    Raises:
        StoreError: it is not an edit store's, or it is from a newer version of this library.
    """
    with connection(path) as database:
        owner = database.execute("PRAGMA application_id").fetchone()[0]
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if owner != APPLICATION_ID:
        raise StoreError(f"{path} is a database of something else; name another folder for the store.")
    if version > len(MIGRATIONS):
        raise StoreError(f"{path} is from a newer roselora (version {version}); update roselora to read it.")
    return version


def migrate(database: sqlite3.Connection) -> None:
    """Bring the database to the newest version, each step in a transaction of its own."""
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        with transaction(database):
            for statement in filter(str.strip, script.split(";")):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {number}")
