"""The edit store: a folder with the history of edits in SQLite and one file per delta; see docs/file-formats.md.

A delta's file is written first, then one transaction makes the edit exist. So a crash at any moment leaves an edit
wholly there or wholly absent, and at worst a file that no edit refers to. The base's own weights are never touched.
"""

import contextlib
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from roselora.delta import delta_file as io
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.request import EditRequest
from roselora.editing.store import schema
from roselora.editing.store.edit_records import (
    BaseIdentity,
    Event,
    StoredEdit,
    append_event,
    insert_edit,
    read_base,
    read_edits,
    read_events,
)
from roselora.editing.store.finite_sums import require_finite
from roselora.editing.store.inspection import Problem, delta_path, left_over_files, read_delta, verify_store
from roselora.editing.store.schema import store_errors, transaction
from roselora.errors import FileFormatError, StoreError, WrongBaseError, shortened
from roselora.files import flush, is_temporary, make_folder, refuse_link, user_path, write_atomically, writer_lock

DATABASE, DELTAS = "edits.sqlite", "deltas"

MANY = 8
"""How many ids an error names at most."""


class EditStore:
    """The edits of one base model, in a folder.

    Reading methods work at any time, beside a writer too. Writing methods must stand in a `with store.writing():`
    block. Wherever an edit's id is asked for, any beginning of it will do that no other edit shares.

    Each call uses a connection of its own, so a store needs no closing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = folder / DATABASE
        self._deltas = folder / DELTAS
        self._writing = False

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        base: BaseIdentity | None = None,
        *,
        create: bool = False,
        force: bool = False,
    ) -> "EditStore":
        """Open the store in `folder`; a store with an older schema is upgraded.

        Args:
            folder: where it lies.
            base: the model to be edited, if one is at hand.
            create: make a store for `base` if there is none.
            force: open it for another base than its own, and record that in its history.

        Raises:
            WrongBaseError: the store was made for another architecture or other weights than `base`.
            StoreError: there is no store, or it is damaged, not ours, newer than this version or not readable; or
                one cannot be made, for the folder holds other things.
            LockedError: it must be created, upgraded or forced, and another process is writing.
        """
        # An absolute path, for the store is the same one if the process goes to another folder.
        store = cls(user_path(folder).absolute())
        with store_errors(store.folder):
            if not store._database.exists():
                if not create or base is None:
                    raise StoreError(f"There is no edit store in {folder}; check the path, or make one for a model.")
                store._create(base)
            refuse_link(store._deltas)
        if schema.is_outdated(store._database):
            with store.writing():
                schema.migrate(store._database)
        if base is not None:
            store._require_base(base, force)
        return store

    @property
    def base(self) -> BaseIdentity:
        """The model that the store was made for. Raises StoreError if the database cannot be read."""
        with transaction(self._database) as connection:
            return read_base(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the store's one writer while the block runs; readers go on.

        Raises:
            LockedError: someone else is writing; the message says who.
            StoreError: the store is gone, or the folder cannot be written.
        """
        with store_errors(self.folder):
            if not self._database.exists():
                raise StoreError(f"There is no edit store in {self.folder} any more; was it moved?")
        with self._locked():
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with store_errors(self.folder):
                stack.enter_context(writer_lock(self.folder / "lock"))
            self._writing = True
            try:
                yield
            finally:
                self._writing = False

    def add(
        self,
        request: EditRequest,
        delta: SparseDelta,
        provenance: Mapping[str, Any],
        *,
        instead_of: str | None = None,
    ) -> StoredEdit:
        """Commit an edit, active and last in commit order.

        Args:
            request: what was asked.
            delta: the update that does it.
            provenance: plain JSON: config, seed, versions, metrics, time taken.
            instead_of: an active edit, by its id, that is undone in the same transaction: both happen or neither.

        Raises:
            ConfigError: `provenance` or a text is not plain JSON, or the delta's metadata is too long.
            StoreError: it cannot be written, the other edit is not active, or this is no `writing()` block; no edit
                was added.
        """
        self._require_writing()
        data = io.encode(delta)
        sha256 = hashlib.sha256(data).hexdigest()
        with store_errors(self._deltas):
            refuse_link(self._deltas)
            # Even if the file is there already: a crash may have kept its name from reaching the disk.
            write_atomically(delta_path(self._deltas, sha256), data)
        with transaction(self._database, write=True) as connection:
            if instead_of is not None:
                self._switch(connection, instead_of, False)
            return insert_edit(connection, request, sha256, provenance)

    def undo(self, id: str) -> StoredEdit:
        """Mark an edit as taken back.

        Raises:
            StoreError: there is no such edit, it is undone already, or this is no `writing()` block.
            NonFiniteError: the sum of the others is not finite.
        """
        return self._set_active(id, False)

    def redo(self, id: str) -> StoredEdit:
        """Mark an undone edit as active again, at its old place in commit order.

        Raises:
            StoreError: there is no such edit, it is active already, or this is no `writing()` block.
            FileFormatError: its delta is missing or damaged, so the model could not be opened with it.
            NonFiniteError: the sum with the others is not finite.
        """
        return self._set_active(id, True)

    def require_switch(self, id: str, active: bool) -> StoredEdit:
        """The edit as it is, after making sure that it can be undone or redone; raises as these do."""
        edit = self.find(id)
        _require_other(edit, active)
        try:
            delta = self.delta_of(edit)
        except FileFormatError:
            if active:
                raise
            return edit  # which is how the model can be opened again

        def then() -> Iterator[SparseDelta]:
            for other in self.edits():
                if active if other.id == edit.id else other.active:
                    with contextlib.suppress(FileFormatError):  # which keeps the model from being opened, and not this
                        yield self.delta_of(other)

        require_finite(delta, then)
        return edit

    def note(self, id: str, text: str) -> Event:
        """Add a remark to an edit's history.

        Raises:
            ConfigError: the text is not Unicode.
            StoreError: there is no such edit, or this is no `writing()` block.
        """
        self._require_writing()
        with transaction(self._database, write=True) as connection:
            edit = self._only(read_edits(connection, id), id)
            return append_event(connection, "note", {"text": text}, edit.id)

    def edits(self) -> list[StoredEdit]:
        """Every edit, in commit order. Raises StoreError if the database is damaged or cannot be read."""
        with transaction(self._database) as connection:
            return read_edits(connection)

    def active(self) -> list[StoredEdit]:
        """The edits that are not undone, in commit order; these make the edited model. Raises as `edits` does."""
        return [edit for edit in self.edits() if edit.active]

    def find(self, prefix: str) -> StoredEdit:
        """The one edit whose id begins with `prefix`.

        Raises:
            StoreError: there is none or more than one; the message names some.
        """
        with transaction(self._database) as connection:
            return self._only(read_edits(connection, prefix), prefix)

    def history(self, id: str | None = None) -> list[Event]:
        """What happened to one edit, or to the whole store, in order. Raises as `find` and `edits` do."""
        edit = None if id is None else self.find(id).id
        with transaction(self._database) as connection:
            return read_events(connection, edit)

    def delta(self, id: str) -> SparseDelta:
        """The update that an edit makes.

        Raises:
            StoreError: there is no such edit.
            FileFormatError: its file is missing or damaged in any bit.
        """
        return self.delta_of(self.find(id))

    def delta_of(self, edit: StoredEdit) -> SparseDelta:
        """The update that an edit of this store makes, for which the database need not be read again.

        Raises:
            FileFormatError: as `delta` does.
        """
        return read_delta(delta_path(self._deltas, edit.delta_sha256), edit.delta_sha256)

    def verify(self) -> list[Problem]:
        """Everything that is wrong with the store; what a crash may leave is marked harmless.

        Reads every row and every file. Nothing is raised for damage, and nothing is changed.
        """
        return verify_store(self._database, self._deltas)

    def collect_orphans(self) -> list[Path]:
        """Remove the files that crashes left and no edit refers to, and say which.

        Raises:
            StoreError: the database is damaged (nothing is removed), a file cannot be removed, or this is no
                `writing()` block.
        """
        self._require_writing()
        kept = {delta_path(self._deltas, edit.delta_sha256) for edit in self.edits()}
        with store_errors(self._deltas):
            orphans = sorted(set(left_over_files(self._database, self._deltas)) - kept)
            for path in orphans:
                path.unlink()
        return orphans

    def _create(self, base: BaseIdentity) -> None:
        require_place(self.folder)
        make_folder(self.folder)
        with self._locked():
            if self._database.exists():  # another process was first
                return
            self._deltas.mkdir(exist_ok=True)
            flush(self.folder)
            write_atomically(self._database, _new_database(base))

    def _require_base(self, base: BaseIdentity, force: bool) -> None:
        own = self.base
        if base.is_same_model(own):
            return
        if not force:
            if base.is_only_loaded_otherwise(own):
                raise WrongBaseError(
                    f"{self.folder} holds edits of {own} in {own.dtype}, and the model was loaded in {base.dtype}; "
                    f"load it in {own.dtype} (--dtype {own.dtype}, in Python dtype={own.dtype!r})."
                )
            raise WrongBaseError(
                f"{self.folder} holds edits of {own}, not of {base}; open that model (--model), or have them applied "
                "to this one (--force, in Python force=True)."
            )
        with self.writing(), transaction(self._database, write=True) as connection:
            append_event(connection, "force", base.as_detail())

    def _require_writing(self) -> None:
        if not self._writing:
            raise StoreError(f"{self.folder} is open for reading; change it inside a `with store.writing():` block.")

    def _set_active(self, id: str, active: bool) -> StoredEdit:
        self._require_writing()
        edit = self.require_switch(id, active)
        with transaction(self._database, write=True) as connection:
            return self._switch(connection, edit.id, active)

    def _switch(self, connection: sqlite3.Connection, id: str, active: bool) -> StoredEdit:
        edit = self._only(read_edits(connection, id), id)
        _require_other(edit, active)
        connection.execute("UPDATE edits SET active = ? WHERE id = ?", (int(active), edit.id))
        append_event(connection, "redo" if active else "undo", {}, edit.id)
        return replace(edit, active=active)

    def _only(self, matches: list[StoredEdit], prefix: str) -> StoredEdit:
        if not prefix:
            raise StoreError("An edit's id must not be empty; `roselora log` lists them.")
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise StoreError(f"{prefix!r} begins the ids of {_named(matches)}; give more digits.")
        raise StoreError(
            f"No edit in {self.folder} has an id that begins with {shortened(repr(prefix))}; "
            f"it has {_named(self.edits())}."
        )


def require_place(folder: Path) -> None:
    """Refuse a folder in which there is no store, and none can be made, for it holds other things.

    Raises:
        StoreError: it does.
    """
    place = user_path(folder)
    with store_errors(place):
        if not has_store(place) and place.exists() and not all(map(_may_stay, place.iterdir())):
            raise StoreError(f"{folder} holds other things, so no edit store is made there; name a new folder.")


def has_store(folder: Path) -> bool:
    """Whether there is a store's database in the folder."""
    return (user_path(folder) / DATABASE).exists()


def require_outside_stores(path: Path) -> None:
    """Refuse a place within a store, where nothing but the store's own files may be.

    Raises:
        StoreError: it is within one.
    """
    place = Path(os.path.realpath(path))
    for folder in (place, *place.parents):
        with store_errors(place):
            within = has_store(folder)
        if within:
            raise StoreError(f"{path} is within the edit store {folder}; name a place outside of it.")


def _may_stay(path: Path) -> bool:
    """Whether this is what a crash while creating a store leaves; deltas without a database are precious."""
    if path.name == DELTAS:
        return path.is_dir() and not path.is_symlink() and all(map(is_temporary, path.iterdir()))
    return path.name in ("lock", "lock.holder") or is_temporary(path)


def _require_other(edit: StoredEdit, active: bool) -> None:
    if edit.active == active:
        raise StoreError(f"Edit {edit.id} is {'active' if active else 'undone'} already; nothing was changed.")


def _new_database(base: BaseIdentity) -> bytes:
    """A whole new database, made elsewhere so that it can be put in its place in one step."""
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / DATABASE
        schema.create(database)
        with transaction(database, write=True) as connection:
            append_event(connection, "create", base.as_detail())
        return database.read_bytes()


def _named(edits: list[StoredEdit]) -> str:
    """The latest few ids, as text."""
    ids = [edit.id for edit in edits[-MANY:]]
    more = len(edits) - len(ids)
    return ", ".join([*ids, *([f"{more} more"] if more else [])]) or "none"
