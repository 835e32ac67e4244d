"""Rows and what becomes of them: any text comes back, and whatever is not a proper row is refused."""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.request import EditRequest
from roselora.editing.store import edit_rows
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore
from roselora.editing.store.provenance import read_provenance
from roselora.errors import ConfigError, StoreError
from tests.editing.store.contents import content

Deltas = Callable[[float], SparseDelta]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip() != "")


def test_a_request_with_a_wrong_type_is_refused_and_not_called_damage(store: EditStore, small_delta: Deltas) -> None:
    before = content(store)
    request = EditRequest("a", "b")
    object.__setattr__(request, "subject", 5)
    with store.writing(), pytest.raises(ConfigError, match=r"request\.subject: Input should be a valid string"):
        store.add(request, small_delta(1), {})
    assert content(store) == before


@pytest.mark.parametrize("bad", [{"loss": float("nan")}, {"path": Path("x")}, {"text": "\ud800"}], ids=str)
def test_provenance_that_json_cannot_hold_is_refused_and_changes_nothing(
    store: EditStore, small_delta: Deltas, bad: dict[str, Any]
) -> None:
    before = content(store)
    with store.writing(), pytest.raises(ConfigError, match="plain JSON"):
        store.add(EditRequest("a", "b"), small_delta(1), bad)
    assert content(store) == before


@given(prompt=TEXTS, target=TEXTS, subject=st.none() | TEXTS, rephrasings=st.lists(TEXTS), note=TEXTS)
@settings(max_examples=15, deadline=None)
def test_any_text_makes_the_round_trip(
    base: BaseIdentity,
    small_delta: Deltas,
    prompt: str,
    target: str,
    subject: str | None,
    rephrasings: list[str],
    note: str,
) -> None:
    request = EditRequest(prompt, " ".join(target.split()), subject, tuple(rephrasings))
    with tempfile.TemporaryDirectory() as folder:
        store = EditStore.open(folder, base, create=True)
        with store.writing():
            edit = store.add(request, small_delta(1), {"prompt": prompt})
            store.note(edit.id, note)
        assert store.find(edit.id) == edit
        assert (edit.request, edit.provenance) == (request, {"prompt": prompt})
        assert store.history(edit.id)[1].detail == {"text": note}
        assert store.verify() == []


def forged(store: EditStore, **columns: str) -> None:
    """Change the first edit, with an id made anew, as a hostile store would have it."""
    with closing(sqlite3.connect(store.folder / "edits.sqlite")) as connection, connection:
        names = ("position", "request", "delta_sha256", "provenance", "created")
        row = connection.execute(f"SELECT {', '.join(names)} FROM edits WHERE position = 1").fetchone()
        changed = dict(zip(names, row, strict=True)) | columns
        id = edit_rows._digest(*changed.values())[:12]
        for name, value in {**columns, "id": id}.items():
            connection.execute(f"UPDATE edits SET {name} = ? WHERE position = 1", (value,))
        connection.execute("DELETE FROM events WHERE kind = 'note'")
        digest = edit_rows._digest(2, id, "edit", "{}", changed["created"])
        event = (id, changed["created"], digest)
        connection.execute("UPDATE events SET edit = ?, time = ?, digest = ? WHERE number = 2", event)


def test_a_request_of_an_earlier_version_which_names_no_form_was_made_for_the_bare_prompt(store: EditStore) -> None:
    old = '{"prompt": "a", "target": "b", "subject": null, "rephrasings": [], "keep": [], "space": null}'
    answers = '{"answers": [{"kind": "prompt", "prompt": "a", "before": "c", "after": "b"}]}'
    forged(store, request=old, provenance=answers)
    edit, other, _ = store.edits()
    assert (edit.request, other.request.form) == (EditRequest("a", "b", form="bare"), "both")
    (answer,) = read_provenance(edit.provenance).answers or ()
    assert answer.form == "bare"


def test_promise_2_json_columns_are_checked_whatever_their_hashes_say(store: EditStore) -> None:
    forged(store)
    assert store.verify() == []
    good = '{"prompt": "a", "target": "b", "subject": null, "rephrasings": [], "keep": []}'
    for columns in (
        {"request": "{"},
        {"request": "[]"},
        {"request": "[" * 100_000},
        {"request": '{"prompt": "a"}'},
        {"request": good.replace('"a"', "7")},
        {"request": good.replace('"a"', '" "')},
        {"request": good.replace("null", "[]")},
        {"request": good.replace('"keep": []', '"keep": "all"')},
        {"request": good.replace('"keep": []', '"keep": [null]')},
        {"request": good.replace('"keep": []', '"keep": [], "space": 1')},
        {"request": good.replace('"keep": []', '"keep": [], "form": "loud"')},
        {"request": good.replace('"keep": []', '"keep": [], "form": null')},
        {"request": good, "provenance": "null"},
        {"request": good, "provenance": "{}", "created": "yesterday\x1b[2J"},
        {"request": good, "provenance": "{}", "created": "2026-01-01T00:00:00+00:00", "delta_sha256": "../x"},
    ):
        forged(store, **columns)
        with pytest.raises(StoreError, match=r"Edit '[0-9a-f]{12}' at position 1 is damaged"):
            store.edits()
