"""The folder of an edit store: where one is, where one may be made, and how it is made."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from roselora.editing.store import schema
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_rows import append_event
from roselora.editing.store.schema import store_errors, transaction
from roselora.errors import StoreError
from roselora.files import flush, is_temporary, make_folder, user_path, write_atomically
from roselora.writer_lock import writer_lock

DATABASE, DELTAS, LOCK = "edits.sqlite", "deltas", "lock"


def has_store(folder: Path) -> bool:
    """Whether there is a store's database in the folder."""
    return (user_path(folder) / DATABASE).exists()


def require_place(folder: Path) -> None:
    """Refuse a folder that has no store and holds other things, so that no store is made among them.

    Raises:
        StoreError: it is such a folder.
    """
    place = user_path(folder)
    with store_errors(place):
        if not has_store(place) and place.exists() and not all(map(_is_left_by_a_crash, place.iterdir())):
            raise StoreError(f"{folder} holds other things, so no edit store is made there; name a new folder.")


def require_outside_stores(path: Path) -> None:
    """Refuse a path inside a store, where only the store's own files may be.

    Raises:
        StoreError: it is inside one.
    """
    place = Path(os.path.realpath(path))
    for folder in (place, *place.parents):
        with store_errors(place):
            within = has_store(folder)
        if within:
            raise StoreError(f"{path} is within the edit store {folder}; name a place outside of it.")


def create_store(folder: Path, base: BaseIdentity) -> None:
    """Make an empty store, unless another process makes it first.

    Raises:
        LockedError: another process is making it.
        StoreError: the folder holds other things, or cannot be written.
    """
    require_place(folder)
    make_folder(folder)
    with locked(folder):
        if not has_store(folder):
            (folder / DELTAS).mkdir(exist_ok=True)
            flush(folder)
            # The database appears last and in one step: until then a crash leaves what `require_place` accepts.
            write_atomically(folder / DATABASE, _new_database(base))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's writer lock inside the block.

    Raises:
        LockedError: another process, or another block of this one, is.
        StoreError: the lock's file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with store_errors(folder):  # for the lock's own errors alone, not for those of the block
            stack.enter_context(writer_lock(folder / LOCK))
        yield


def _is_left_by_a_crash(path: Path) -> bool:
    """Whether a crash while creating a store can leave this; deltas without a database may be someone's edits."""
    if path.name == DELTAS:
        return path.is_dir() and not path.is_symlink() and all(map(is_temporary, path.iterdir()))
    return path.name in (LOCK, f"{LOCK}.holder") or is_temporary(path)


def _new_database(base: BaseIdentity) -> bytes:
    """A complete new database, made in a temporary folder so that it can be put into place in one step."""
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / DATABASE
        schema.create(database)
        with transaction(database, write=True) as connection:
            append_event(connection, "create", base.as_detail())
        return database.read_bytes()
