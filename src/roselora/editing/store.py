"""The edit store: a folder with a database of edits and one content-addressed file per delta.

A delta's file is written first, then one transaction names it; so a crash leaves at most a file that no edit refers
to. The base model's own files are never touched.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roselora.delta.io import decode, encode
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing import schema
from roselora.editing.request import EditRequest
from roselora.errors import FileFormatError, RoseLoraError, StoreError, WrongBaseError
from roselora.files import write_atomically, writer_lock

DATABASE = "edits.sqlite"
DELTAS = "deltas"
LOCK = "lock"
ID_LENGTH = 8


@dataclass(frozen=True)
class BaseIdentity:
    """The model that a store's edits are for.

    Attributes:
        name: what the user called it: a folder, a hub id, ``demo``.
        architecture: its class.
        sha256: the fingerprint of all its weights.
    """

    name: str
    architecture: str
    sha256: str


@dataclass(frozen=True)
class StoredEdit:
    """One edit that was committed.

    Attributes:
        id: short, and the same for ever; users name it by any prefix that no other id shares.
        position: its place in commit order.
        active: whether it is in the model, not undone.
        created: when, UTC, ISO 8601.
        delta_sha256: the hash, and so the name, of its delta's file.
        request: what was asked.
        provenance: JSON: method, settings, versions, training, update, answers before and after, state.
    """

    id: str
    position: int
    active: bool
    created: str
    delta_sha256: str
    request: EditRequest
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """One line of the history: ``edit``, ``undo``, ``redo``, ``note`` or ``force``, of an edit or of the store."""

    edit_id: str | None
    kind: str
    time: str
    text: str | None


@dataclass(frozen=True)
class Problem:
    """Something that `verify` found; a file that no edit refers to is not serious."""

    what: str
    serious: bool


class EditStore:
    """One store; `open` makes it. Reading needs no lock; every change must stand inside `writing`."""

    def __init__(self, folder: Path, base: BaseIdentity) -> None:
        self.folder = folder
        self.base = base
        self._database = folder / DATABASE
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
        """Open the store in ``folder``.

        Args:
            folder: where it is.
            base: the model at hand, which must be the store's; None for reading alone.
            create: make the store for ``base`` if there is none.
            force: open it for another base, and say so in its history.

        Raises:
            StoreError: there is no store, or what is there is damaged, newer, or something else.
            WrongBaseError: the store belongs to another base.
        """
        folder = Path(folder)
        path = folder / DATABASE
        if not path.is_file():
            if not create or base is None:
                raise StoreError(f"There is no edit store in {folder}; `roselora edit` makes one, --store names it.")
            cls._create(folder, base)
        if schema.require_known(path) < len(schema.MIGRATIONS):
            with writer_lock(folder / LOCK), schema.connection(path) as database:
                schema.migrate(database)
        with schema.connection(path) as database:
            row = database.execute("SELECT name, architecture, sha256 FROM base").fetchone()
        if row is None:
            raise StoreError(f"{path} does not say which base it belongs to; it is damaged.")
        store = cls(folder, BaseIdentity(*row))
        if base is not None:
            store._require_base(base, force)
        return store

    @staticmethod
    def _create(folder: Path, base: BaseIdentity) -> None:
        ours = {DELTAS, LOCK, f"{LOCK}.holder"}
        try:
            foreign = [] if not folder.exists() else [p.name for p in folder.iterdir() if p.name not in ours]
            if any(not name.startswith(f".{DATABASE}.") for name in foreign):
                raise StoreError(f"{folder} holds other things; name a folder for the store that is new or empty.")
            (folder / DELTAS).mkdir(parents=True, exist_ok=True)
            with writer_lock(folder / LOCK):
                if not (folder / DATABASE).exists():
                    schema.create(folder / DATABASE, (base.name, base.architecture, base.sha256), _now())
        except OSError as error:
            raise StoreError(f"No store can be made in {folder} ({error.strerror or error}).") from error

    def _require_base(self, base: BaseIdentity, force: bool) -> None:
        if (base.architecture, base.sha256) == (self.base.architecture, self.base.sha256):
            return
        if not force:
            raise WrongBaseError(
                f"The store {self.folder} belongs to {self.base.name} ({self.base.architecture}, "
                f"{self.base.sha256[:12]}…), not to {base.name} ({base.architecture}, {base.sha256[:12]}…)."
            )
        with self.writing(), self._transaction() as database:
            text = f"opened for {base.name} ({base.architecture}, {base.sha256})"
            _add_event(database, None, "force", text)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer while the block runs.

        Raises:
            LockedError: another is; it is named.
            StoreError: the folder is not writable.
        """
        try:
            with writer_lock(self.folder / LOCK):
                self._writing = True
                yield
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written to ({error.strerror or error}).") from error
        finally:
            self._writing = False

    def add(self, request: EditRequest, delta: SparseDelta, provenance: Mapping[str, Any]) -> StoredEdit:
        """Remember a new edit as active, after all others.

        Raises:
            StoreError: the disk refused; the store is as it was but for a file that no edit refers to.
        """
        self._require_writer()
        data = encode(delta)
        digest = hashlib.sha256(data).hexdigest()
        try:
            (self.folder / DELTAS).mkdir(exist_ok=True)
            write_atomically(self._delta_path(digest), data)
        except OSError as error:
            raise StoreError(f"The delta cannot be written to {self.folder} ({error.strerror or error}).") from error
        with self._transaction() as database:
            position = database.execute("SELECT COALESCE(MAX(position) + 1, 0) FROM edits").fetchone()[0]
            created = _now()
            edit_id = _new_id(database, digest, position)
            row = (edit_id, position, 1, created, digest, _json(asdict(request)), _json(provenance))
            database.execute("INSERT INTO edits VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            _add_event(database, edit_id, "edit")
        return self.find(edit_id)

    def undo(self, edit_id: str) -> StoredEdit:
        """Mark an active edit as undone.

        Raises:
            StoreError: there is no such edit, or it is undone already.
        """
        return self._switch(edit_id, active=False)

    def redo(self, edit_id: str) -> StoredEdit:
        """Mark an undone edit as active again, at its old position.

        Raises:
            StoreError: there is no such edit, or it is active already.
        """
        return self._switch(edit_id, active=True)

    def note(self, edit_id: str, text: str) -> None:
        """Write a note into an edit's history.

        Raises:
            StoreError: there is no such edit.
        """
        self._require_writer()
        edit = self.find(edit_id)
        with self._transaction() as database:
            _add_event(database, edit.id, "note", text)

    def edits(self) -> list[StoredEdit]:
        """Every edit, in commit order.

        Raises:
            StoreError: a row is damaged.
        """
        with schema.connection(self._database) as database:
            rows = database.execute(
                "SELECT id, position, active, created, delta_sha256, request, provenance FROM edits ORDER BY position"
            ).fetchall()
        return [self._edit(row) for row in rows]

    def active(self) -> list[StoredEdit]:
        """The edits that are not undone, in commit order."""
        return [edit for edit in self.edits() if edit.active]

    def find(self, prefix: str) -> StoredEdit:
        """The edit whose id begins with ``prefix``.

        Raises:
            StoreError: none does, or several do.
        """
        found = [edit for edit in self.edits() if prefix and edit.id.startswith(prefix.lower())]
        if len(found) == 1:
            return found[0]
        if not found:
            raise StoreError(f"There is no edit {prefix!r} in {self.folder}; `roselora log` lists them.")
        raise StoreError(f"{prefix!r} could be any of {', '.join(edit.id for edit in found)}; give more of the id.")

    def history(self, edit_id: str | None = None) -> list[Event]:
        """What happened, oldest first: to one edit, or to the whole store."""
        with schema.connection(self._database) as database:
            rows = database.execute(
                "SELECT edit_id, kind, time, text FROM events WHERE ?1 IS NULL OR edit_id = ?1 ORDER BY number",
                (edit_id,),
            ).fetchall()
        return [Event(*row) for row in rows]

    def delta(self, edit_id: str) -> SparseDelta:
        """An edit's delta, after its file's bytes have been compared with the hash in the database.

        Raises:
            StoreError: there is no such edit, or the file is missing.
            FileFormatError: the file is not the one that was committed.
        """
        digest = self.find(edit_id).delta_sha256
        path = self._delta_path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"The delta of edit {edit_id} cannot be read ({path}: {error.strerror}).") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise FileFormatError(f"{path} was changed since it was committed: its SHA-256 is not its name.")
        return decode(data, str(path))

    def verify(self) -> list[Problem]:
        """Compare everything with everything: the database with itself, every file with its hash."""
        with schema.connection(self._database) as database:
            integrity = [row[0] for row in database.execute("PRAGMA integrity_check") if row[0] != "ok"]
            dangling = database.execute("PRAGMA foreign_key_check").fetchall()
        problems = [Problem(f"{self._database}: {line}", serious=True) for line in integrity]
        problems += [
            Problem(f"{self._database}: a row of {row[0]} refers to no edit", serious=True) for row in dangling
        ]
        for edit in self.edits():
            try:
                self.delta(edit.id)
            except RoseLoraError as error:
                problems.append(Problem(str(error), serious=True))
            switches = [event.kind for event in self.history(edit.id) if event.kind in ("edit", "undo", "redo")]
            if not switches or (switches[-1] != "undo") != edit.active:
                problems.append(Problem(f"edit {edit.id}: its state contradicts its history", serious=True))
        return problems + [Problem(f"{path}: no edit refers to it", serious=False) for path in self._orphans()]

    def collect_orphans(self) -> list[Path]:
        """Remove files that no edit refers to, which a crash has left; returns what was removed."""
        self._require_writer()
        orphans = self._orphans()
        try:
            for path in orphans:
                path.unlink()
        except OSError as error:
            raise StoreError(f"{error.filename} cannot be removed ({error.strerror}).") from error
        return orphans

    def _orphans(self) -> list[Path]:
        referred = {self._delta_path(edit.delta_sha256) for edit in self.edits()}
        files = (self.folder / DELTAS).iterdir() if (self.folder / DELTAS).is_dir() else ()
        unfinished = self.folder.glob(f".{DATABASE}.*.tmp*")
        return sorted([path for path in files if path not in referred and path.is_file()] + list(unfinished))

    def _switch(self, edit_id: str, *, active: bool) -> StoredEdit:
        self._require_writer()
        edit = self.find(edit_id)
        if edit.active == active:
            raise StoreError(f"Edit {edit.id} is {'active' if active else 'undone'} already; nothing was changed.")
        with self._transaction() as database:
            database.execute("UPDATE edits SET active = ? WHERE id = ?", (int(active), edit.id))
            _add_event(database, edit.id, "redo" if active else "undo")
        return self.find(edit.id)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with schema.connection(self._database) as database, schema.transaction(database):
            yield database

    def _delta_path(self, digest: str) -> Path:
        return self.folder / DELTAS / f"{digest}.safetensors"

    def _require_writer(self) -> None:
        assert self._writing, "a change of the store stands inside `with store.writing()`"

    def _edit(self, row: tuple[Any, ...]) -> StoredEdit:
        edit_id, position, active, created, digest, request, provenance = row
        try:
            fields = json.loads(request)
            asked = EditRequest(**fields)
            origin = json.loads(provenance)
            if not isinstance(origin, dict):
                raise TypeError("provenance is not an object")
            return StoredEdit(edit_id, position, bool(active), created, digest, asked, origin)
        except (ValueError, TypeError, RoseLoraError) as error:
            raise StoreError(f"Edit {edit_id} in {self._database} is damaged ({error}).") from error


def _new_id(database: sqlite3.Connection, digest: str, position: int) -> str:
    taken = {row[0] for row in database.execute("SELECT id FROM edits")}
    salt = 0
    while True:
        edit_id = hashlib.sha256(f"{digest} {position} {salt}".encode()).hexdigest()[:ID_LENGTH]
        if edit_id not in taken:
            return edit_id
        salt += 1


def _add_event(database: sqlite3.Connection, edit_id: str | None, kind: str, text: str | None = None) -> None:
    row = (edit_id, kind, _now(), text)
    database.execute("INSERT INTO events (edit_id, kind, time, text) VALUES (?, ?, ?, ?)", row)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
