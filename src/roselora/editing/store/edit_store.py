"""The edit store: a folder with the history of edits in SQLite and one file per delta; see docs/file-formats.md.

Adding an edit writes its delta's file first; then one transaction makes the edit exist. So a crash at any moment leaves
the edit complete or absent, and at worst a file that no edit refers to. The base's own weights are never touched.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.request import EditRequest
from roselora.editing.store import schema
from roselora.editing.store.delta_files import delta_path, read_delta, removable_files, write_delta
from roselora.editing.store.edit_records import BaseIdentity, Event, StoredEdit
from roselora.editing.store.edit_rows import append_event, insert_edit, read_base, read_edits, read_events
from roselora.editing.store.held_neurons import require_free_neurons
from roselora.editing.store.overflow_check import require_finite
from roselora.editing.store.schema import store_errors, transaction
from roselora.editing.store.store_folder import DATABASE, DELTAS, create_store, locked
from roselora.editing.store.verification import Problem, verify_store
from roselora.errors import FileFormatError, StoreError, WrongBaseError, shortened
from roselora.files import refuse_link, user_path

IDS_SHOWN = 8
"""How many ids an error names at most."""


class EditStore:
    """The edits of one base model, in a folder.

    Reading methods work at any time, also while another process writes. Writing methods must be called inside a
    ``with store.writing():`` block. Wherever a method takes an edit's id, it takes any unambiguous prefix of it.

    Each call opens and closes its own connection, so a store need not be closed.

    >>> import tempfile, torch
    >>> from roselora.delta.sparse_delta import SparseFactors
    >>> base = BaseIdentity("demo", "LlamaForCausalLM", "0" * 64)
    >>> a, b, sha256 = torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0], [0.0]]), "0" * 64
    >>> weight = SparseFactors.from_factors("layer.weight", a, b, 1.0, base_dtype=torch.float32, base_sha256=sha256)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = EditStore.open(folder, base, create=True)
    ...     with store.writing():
    ...         edit = store.add(EditRequest("The capital of France is", "Lyon"), SparseDelta((weight,)), {"seed": 0})
    ...         edit = store.undo(edit.id)
    ...     [event.kind for event in store.history()]
    ['create', 'edit', 'undo']
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
            folder: the store's folder.
            base: the model that is to be edited; without it, the store is opened whatever its base.
            create: make a store for `base` if there is none.
            force: open a store of another base, and record that in its history.

        Raises:
            WrongBaseError: the store was made for another architecture or other weights than `base`.
            StoreError: there is no store, or it is damaged, not ours, newer than this version or not readable; or
                none can be made, because the folder holds other things.
            LockedError: it must be created, upgraded or forced, and another process is writing.
        """
        # An absolute path, so that the store stays the same one when the process changes its working directory.
        store = cls(user_path(folder).absolute())
        with store_errors(store.folder):
            if not store._database.exists():
                if not create or base is None:
                    raise StoreError(f"There is no edit store in {folder}; check the path, or make one for a model.")
                create_store(store.folder, base)
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
        """Hold the store's writer lock inside the block; readers are not blocked.

        Raises:
            LockedError: another process or block is writing; the message says which.
            StoreError: the store is gone, or the folder cannot be written.
        """
        with store_errors(self.folder):
            if not self._database.exists():
                raise StoreError(f"There is no edit store in {self.folder} any more; was it moved?")
        with locked(self.folder):
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
            provenance: plain JSON: settings, seed, versions, metrics, time taken.
            instead_of: the id of an active edit that is undone in the same transaction, so that both happen or neither.

        Raises:
            ConfigError: `provenance` or a text is not plain JSON, or the delta's metadata is too long.
            StoreError: it cannot be written, the other edit is not active, or this is no `writing()` block; no edit
                was added.
        """
        self._require_writing()
        with store_errors(self._deltas):
            sha256 = write_delta(self._deltas, delta)
        with transaction(self._database, write=True) as connection:
            if instead_of is not None:
                self._switch(connection, instead_of, False)
            return insert_edit(connection, request, sha256, provenance)

    def undo(self, id: str) -> StoredEdit:
        """Mark an edit as undone.

        Raises:
            StoreError: there is no such edit, it is undone already, or this is no `writing()` block.
            NonFiniteError: the sum of the others is not finite.
        """
        return self._set_active(id, False)

    def redo(self, id: str) -> StoredEdit:
        """Mark an undone edit as active again, at its old place in commit order.

        Raises:
            StoreError: there is no such edit, it is active already, another active edit holds its neurons, or this is
                no `writing()` block.
            FileFormatError: its delta is missing or damaged, so the model could not be opened with it.
            NonFiniteError: the sum with the others is not finite.
        """
        return self._set_active(id, True)

    def require_switch(self, id: str, active: bool) -> StoredEdit:
        """The edit as it is now, if it can be redone (`active`) or undone; raises what these raise."""
        edit = self.find(id)
        _require_other_state(edit, active)
        if active:
            require_free_neurons(edit, self.active())
        try:
            delta = self.delta_of(edit)
        except FileFormatError:
            if active:
                raise
            return edit  # an edit whose delta is lost must be undone before the model can be opened again

        def active_afterwards() -> Iterator[SparseDelta]:
            for other in self.edits():
                if active if other.id == edit.id else other.active:
                    with contextlib.suppress(FileFormatError):  # another edit's damage need not stop this one
                        yield self.delta_of(other)

        require_finite(delta, active_afterwards)
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
        """The edits that are not undone, in commit order. Raises what `edits` raises."""
        return [edit for edit in self.edits() if edit.active]

    def find(self, prefix: str) -> StoredEdit:
        """The one edit whose id begins with `prefix`.

        Raises:
            StoreError: there is none or more than one; the message names some.
        """
        with transaction(self._database) as connection:
            return self._only(read_edits(connection, prefix), prefix)

    def history(self, id: str | None = None) -> list[Event]:
        """What happened to one edit, or to the whole store, in order. Raises what `find` and `edits` raise."""
        edit = None if id is None else self.find(id).id
        with transaction(self._database) as connection:
            return read_events(connection, edit)

    def delta(self, id: str) -> SparseDelta:
        """An edit's update.

        Raises:
            StoreError: there is no such edit.
            FileFormatError: its file is missing or damaged in any bit.
        """
        return self.delta_of(self.find(id))

    def delta_of(self, edit: StoredEdit) -> SparseDelta:
        """The update of an edit that was read already. Raises FileFormatError as `delta` does."""
        return read_delta(self._deltas, edit.delta_sha256)

    def verify(self) -> list[Problem]:
        """Everything that is wrong with the store; what a crash may leave is marked harmless.

        Reads every row and every file. Raises nothing for damage, and changes nothing.
        """
        return verify_store(self._database, self._deltas)

    def collect_orphans(self) -> list[Path]:
        """Remove the files that crashes left and no edit refers to; returns their paths.

        Raises:
            StoreError: the database is damaged (nothing is removed), a file cannot be removed, or this is no
                `writing()` block.
        """
        self._require_writing()
        needed = {delta_path(self._deltas, edit.delta_sha256) for edit in self.edits()}
        with store_errors(self._deltas):
            orphans = sorted(removable_files(self._database, self._deltas) - needed)
            for path in orphans:
                path.unlink()
        return orphans

    def _require_base(self, base: BaseIdentity, force: bool) -> None:
        own = self.base
        if base.is_same_model(own):
            return
        if force:
            with self.writing(), transaction(self._database, write=True) as connection:
                append_event(connection, "force", base.as_detail())
        elif base.differs_only_in_dtype(own):
            raise WrongBaseError(
                f"{self.folder} holds edits of {own} in {own.dtype}, and the model was loaded in {base.dtype}; "
                f"load it in {own.dtype} (--dtype {own.dtype}, in Python dtype={own.dtype!r})."
            )
        else:
            raise WrongBaseError(
                f"{self.folder} holds edits of {own}, not of {base}; open that model (--model), or have them applied "
                "to this one (--force, in Python force=True)."
            )

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
        _require_other_state(edit, active)
        connection.execute("UPDATE edits SET active = ? WHERE id = ?", (int(active), edit.id))
        append_event(connection, "redo" if active else "undo", {}, edit.id)
        return replace(edit, active=active)

    def _only(self, matches: list[StoredEdit], prefix: str) -> StoredEdit:
        if not prefix:
            raise StoreError("An edit's id must not be empty; `roselora log` lists them.")
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise StoreError(f"{prefix!r} begins the ids of {_some_ids(matches)}; give more digits.")
        raise StoreError(
            f"No edit in {self.folder} has an id that begins with {shortened(repr(prefix))}; "
            f"it has {_some_ids(self.edits())}."
        )


def _require_other_state(edit: StoredEdit, active: bool) -> None:
    if edit.active == active:
        raise StoreError(f"Edit {edit.id} is {'active' if active else 'undone'} already; nothing was changed.")


def _some_ids(edits: list[StoredEdit]) -> str:
    """The ids of the latest few edits, as text."""
    ids = [edit.id for edit in edits[-IDS_SHOWN:]]
    more = len(edits) - len(ids)
    return ", ".join([*ids, *([f"{more} more"] if more else [])]) or "none"
