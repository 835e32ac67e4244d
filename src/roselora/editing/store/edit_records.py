"""What the edit store keeps: edits and events, and how they become rows and are checked on the way back.

Each row carries a hash of its own contents (an edit in its id), so that no flipped bit in it goes unseen.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, StoreError

ID_LENGTH = 12
STATE_KINDS = ("edit", "undo", "redo")
EDIT_COLUMNS = "position, id, request, delta_sha256, provenance, created, active"
EVENT_COLUMNS = "number, edit, kind, detail, time, digest"


@dataclass(frozen=True)
class BaseIdentity:
    """The model that a store's edits are made for.

    Attributes:
        name: what the user called it; only shown, never compared.
        architecture: such as "LlamaForCausalLM".
        sha256: the fingerprint over all of its weights, 64 lower-case hexadecimal digits.
        dtype: such as "float32", in which the weights were loaded; None where that is not known.

    Raises:
        ConfigError: `sha256` is not that.
    """

    name: str
    architecture: str
    sha256: str
    dtype: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ConfigError(f"A base's sha256 must be 64 lower-case hexadecimal digits, not {self.sha256!r}.")

    def __str__(self) -> str:
        return f"{self.name} ({self.architecture}, {self.sha256[:ID_LENGTH]})"

    def is_same_model(self, other: "BaseIdentity") -> bool:
        """Whether architecture and weights are the same, whatever the names."""
        return (self.architecture, self.sha256) == (other.architecture, other.sha256)

    def as_detail(self) -> dict[str, str]:
        """What is known of it, as an event of the history tells it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def is_only_loaded_otherwise(self, other: "BaseIdentity") -> bool:
        """Whether this goes by the same name, and the weights are in another dtype."""
        alike = (self.name, self.architecture) == (other.name, other.architecture)
        return alike and None not in (self.dtype, other.dtype) and self.dtype != other.dtype


@dataclass(frozen=True)
class StoredEdit:
    """One edit as the store keeps it.

    Attributes:
        position: its place in commit order, from 1 on; deltas are summed in this order.
        id: 12 hexadecimal digits; users may give any beginning of it that no other edit shares.
        request: what was asked.
        delta_sha256: the SHA-256 of the delta's file, which is also its name.
        provenance: where it came from: config, seed, versions, metrics, as the caller gave it.
        created: UTC, ISO 8601.
        active: False once it is undone.
    """

    position: int
    id: str
    request: EditRequest
    delta_sha256: str
    provenance: Mapping[str, Any]
    created: str
    active: bool


@dataclass(frozen=True)
class Event:
    """One entry of a store's history, which only grows.

    Attributes:
        number: from 1 on, without gaps.
        edit: the id of the edit that it is about, or None if it is about the store.
        kind: "create" and "force" (detail: the base), "edit", "undo", "redo", "note" (detail: text).
        detail: plain JSON.
        time: UTC, ISO 8601.
    """

    number: int
    edit: str | None
    kind: str
    detail: Mapping[str, Any]
    time: str


def now() -> str:
    """This second, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def to_json(what: str, value: Mapping[str, Any]) -> str:
    """`value` as the text of a JSON column.

    Raises:
        ConfigError: it holds something that JSON or UTF-8 can't.
    """
    try:
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False, sort_keys=True)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"The {what} of an edit must be plain JSON: {error}.") from error
    return text


def insert_edit(
    connection: sqlite3.Connection, request: EditRequest, delta_sha256: str, provenance: Mapping[str, Any]
) -> StoredEdit:
    """Add an edit at the end of the commit order, and its event.

    Raises:
        ConfigError: as `to_json` does, or a part of the request is of another type than it must be.
    """
    (position,) = connection.execute("SELECT coalesce(max(position), 0) + 1 FROM edits").fetchone()
    contents = (to_json("request", asdict(request)), delta_sha256, to_json("provenance", provenance), now())
    row = (position, _digest(position, *contents)[:ID_LENGTH], *contents, 1)
    try:
        edit = _edit(row)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The edit cannot be stored, for its request is not one: {error}.") from error
    connection.execute(f"INSERT INTO edits ({EDIT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    append_event(connection, "edit", {}, edit.id)
    return edit


def append_event(
    connection: sqlite3.Connection, kind: str, detail: Mapping[str, Any], edit: str | None = None
) -> Event:
    """Add an event at the end of the history. Raises ConfigError as `to_json` does."""
    (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM events").fetchone()
    contents = (number, edit, kind, to_json(kind, detail), now())
    row = (*contents, _digest(*contents))
    connection.execute(f"INSERT INTO events ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row)
    return event_from_row(row)


def read_edits(connection: sqlite3.Connection, prefix: str = "") -> list[StoredEdit]:
    """The edits whose id begins with `prefix`, in commit order.

    Raises:
        StoreError: as `edit_from_row` does, or an edit that the history tells of is not there.
    """
    if not isinstance(prefix, str) or not prefix.isascii():  # SQLite takes no half characters, and ids have no others
        return []
    kinds: dict[str, list[str]] = {}
    for edit, kind in connection.execute(
        "SELECT edit, kind FROM events WHERE substr(edit, 1, length(?)) = ? AND kind IN (?, ?, ?) ORDER BY number",
        (prefix, prefix, *STATE_KINDS),
    ):
        kinds.setdefault(edit, []).append(kind)
    # With no prefix there is no condition on the id: a damaged id must be seen, not left out.
    query = f"SELECT {EDIT_COLUMNS} FROM edits WHERE ? = '' OR substr(id, 1, length(?)) = ? ORDER BY position"
    rows = connection.execute(query, (prefix, prefix, prefix)).fetchall()
    edits = [edit_from_row(row, kinds.get(row[1], [])) for row in rows]
    lost = sorted(kinds.keys() - {edit.id for edit in edits}, key=str)
    if lost:
        raise StoreError(f"Edit {lost[0]} is in the history but not among the edits; put a copy of edits.sqlite back.")
    return edits


def read_events(connection: sqlite3.Connection, edit: str | None = None) -> list[Event]:
    """All events, or those of one edit, in order.

    Raises:
        StoreError: as `event_from_row` does, or one of them all is missing.
    """
    where, parameters = ("", ()) if edit is None else ("WHERE edit = ?", (edit,))
    rows = connection.execute(f"SELECT {EVENT_COLUMNS} FROM events {where} ORDER BY number", parameters)
    events = [event_from_row(row) for row in rows.fetchall()]
    if edit is None and [event.number for event in events] != list(range(1, len(events) + 1)):
        raise StoreError("Some events of the history are missing; put a copy of edits.sqlite back.")
    return events


def read_base(connection: sqlite3.Connection) -> BaseIdentity:
    """The base that the store was made for: what its first event says.

    Raises:
        StoreError: there is no such event, or it is damaged.
    """
    row = connection.execute(f"SELECT {EVENT_COLUMNS} FROM events WHERE number = 1").fetchone()
    event = None if row is None else event_from_row(row)
    if event is None or event.kind != "create":
        raise StoreError("The store's first event, which names its base, is missing; put a copy of edits.sqlite back.")
    try:
        texts = {name: _text(event.detail[name]) for name in ("name", "architecture", "sha256")}
        dtype = event.detail.get("dtype")  # stores of older versions lack it
        return BaseIdentity(**texts, dtype=None if dtype is None else _text(dtype))
    except (KeyError, TypeError, ConfigError) as error:
        raise StoreError(
            f"The store does not say which base it is for ({error}); put a copy of edits.sqlite back."
        ) from error


def edit_from_row(row: Sequence[Any], state_kinds: Sequence[str]) -> StoredEdit:
    """An edit from its row, of `EDIT_COLUMNS`, and its events of `STATE_KINDS`, in order.

    Raises:
        StoreError: a column is of another type, or not what its id was made from, or not what the events say.
    """
    position, id, *_, active = row
    try:
        edit = _edit(row)
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise StoreError(
            f"Edit {id!r} at position {position} is damaged: {error}; put a copy of edits.sqlite back."
        ) from error
    wanted = ["edit", *("undo" if number % 2 == 0 else "redo" for number in range(len(state_kinds) - 1))]
    if list(state_kinds) != wanted or active != len(state_kinds) % 2:
        raise StoreError(
            f"Edit {id} is {'active' if active else 'undone'}, which contradicts its history "
            f"({', '.join(state_kinds) or 'none'}); put a copy of edits.sqlite back."
        )
    return edit


def _edit(row: Sequence[Any]) -> StoredEdit:
    """Raises TypeError, ValueError, KeyError or RecursionError."""
    position, id, request, delta_sha256, provenance, created, active = row
    expected = _digest(*row[:1], *row[2:6])[:ID_LENGTH]
    if type(position) is not int or id != expected or not re.fullmatch("[0-9a-f]{64}", delta_sha256):
        raise ValueError("it is not what its id was made from")
    datetime.fromisoformat(created)
    return StoredEdit(position, id, _request(request), delta_sha256, _json_object(provenance), created, active == 1)


def event_from_row(row: Sequence[Any]) -> Event:
    """An event from its row, of `EVENT_COLUMNS`.

    Raises:
        StoreError: a column is of another type, or not what its digest was made from.
    """
    number, edit, kind, detail, time, digest = row
    try:
        if type(number) is not int or digest != _digest(*row[:5]):
            raise ValueError("its digest does not match")
        datetime.fromisoformat(time)
        return Event(number, edit if edit is None else _text(edit), _text(kind), _json_object(detail), time)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"Event {number!r} of the history is damaged: {error}; put a copy of edits.sqlite back."
        ) from error


def _digest(*columns: str | int | None) -> str:
    return hashlib.sha256(json.dumps(columns, separators=(",", ":")).encode()).hexdigest()


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r} is not text")
    return value


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if type(value) is not dict:
        raise ValueError("a JSON column does not hold an object")
    return value


def _request(text: str) -> EditRequest:
    """Raises ValueError (ConfigError is one), KeyError or TypeError."""
    value = _json_object(text)
    if type(value["rephrasings"]) is not list or type(value["keep"]) is not list:
        raise TypeError("rephrasings and keep must be lists")
    return EditRequest(
        prompt=_text(value["prompt"]),
        target=_text(value["target"]),
        subject=None if value["subject"] is None else _text(value["subject"]),
        rephrasings=tuple(map(_text, value["rephrasings"])),
        keep=tuple(map(_text, value["keep"])),
        space=value.get("space"),  # which versions before did not know
    )
