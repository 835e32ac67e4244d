"""The edit store: what goes in comes out, and nothing that was altered does."""

import os
import random
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore
from roselora.errors import StoreError, WrongBaseError
from roselora.files import sha256_file
from tests.editing.store.contents import assert_harmful, content, file_of, run_sql

Deltas = Callable[[float], SparseDelta]
OTHER = BaseIdentity("other", "LlamaForCausalLM", "cd" * 32)


def test_an_edit_comes_back_as_it_was_stored(store: EditStore, small_delta: Deltas, base: BaseIdentity) -> None:
    first, second, third = EditStore.open(store.folder, base).edits()
    assert [edit.position for edit in (first, second, third)] == [1, 2, 3]
    assert [edit.active for edit in (first, second, third)] == [True, False, True]
    assert store.active() == [first, third]
    assert third.request == EditRequest("Fact 3 is", "Zürich", None, ("Fakt ist",), ("Snow is",))
    assert third.provenance == {"seed": 3, "text": "s" * 500}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", third.created)
    assert all(re.fullmatch("[0-9a-f]{12}", edit.id) for edit in (first, second, third))
    delta = store.delta(third.id)
    assert delta.metadata == {"value": 3.0}
    assert np.array_equal(delta.weights[0].expand()[1].numpy(), small_delta(3).weights[0].expand()[1].numpy())
    assert sha256_file(file_of(store, third)) == third.delta_sha256
    assert store.base == base
    assert store.verify() == []


def test_the_history_tells_everything_in_order(store: EditStore) -> None:
    first, second, third = store.edits()
    told = [(event.kind, event.edit, dict(event.detail)) for event in store.history()]
    assert told == [
        ("create", None, {"name": "tiny", "architecture": "LlamaForCausalLM", "sha256": "ab" * 32}),
        ("edit", first.id, {}),
        ("edit", second.id, {}),
        ("edit", third.id, {}),
        ("undo", second.id, {}),
        ("note", third.id, {"text": "from the errata"}),
    ]
    assert [event.number for event in store.history()] == [1, 2, 3, 4, 5, 6]
    assert [event.kind for event in store.history(third.id)] == ["edit", "note"]


def test_redo_keeps_the_place_in_commit_order(store: EditStore) -> None:
    before = store.edits()
    with store.writing():
        edit = store.redo(before[1].id)
    assert edit == replace(before[1], active=True)
    assert store.edits() == [before[0], edit, before[2]]
    assert [event.kind for event in store.history(edit.id)] == ["edit", "undo", "redo"]


def test_undoing_an_undone_edit_and_redoing_an_active_one_are_refused(store: EditStore) -> None:
    first, second, _ = store.edits()
    before = content(store)
    with store.writing():
        with pytest.raises(StoreError, match=rf"Edit {second.id} is undone already"):
            store.undo(second.id)
        with pytest.raises(StoreError, match=rf"Edit {first.id} is active already"):
            store.redo(first.id)
    assert content(store) == before


def test_an_edit_in_the_place_of_another_undoes_it_at_once_or_is_not_added(
    store: EditStore, small_delta: Deltas
) -> None:
    first, second, third = store.edits()
    with store.writing():
        new = store.add(EditRequest("Anew", "x"), small_delta(7), {"repairs": first.id}, instead_of=first.id)
        before = content(store)
        with pytest.raises(StoreError, match=rf"Edit {second.id} is undone already"):
            store.add(EditRequest("Anew", "x"), small_delta(8), {}, instead_of=second.id)
    assert content(store) == before
    assert store.active() == [third, new]
    assert [event.kind for event in store.history(first.id)] == ["edit", "undo"]
    assert all(problem.harmless for problem in store.verify())


def test_an_edit_whose_delta_is_lost_can_be_undone(store: EditStore) -> None:
    edit = store.edits()[0]
    file_of(store, edit).unlink()
    with store.writing():
        store.undo(edit.id)
    assert not store.find(edit.id).active


def test_two_edits_may_share_one_delta_file(store: EditStore, small_delta: Deltas) -> None:
    with store.writing():
        again = store.add(EditRequest("Another", "x"), small_delta(1), {})
    assert again.delta_sha256 == store.edits()[0].delta_sha256
    assert len(list((store.folder / "deltas").iterdir())) == 3
    assert again.id != store.edits()[0].id


def test_a_beginning_of_an_id_is_enough_if_it_is_the_only_one(store: EditStore, small_delta: Deltas) -> None:
    ids = [edit.id for edit in store.edits()]
    for id in ids:
        assert store.find(id[:11]).id == id
    with store.writing():
        for number in range(40):
            store.add(EditRequest(f"More {number}", "x"), small_delta(1), {})
    every = [edit.id for edit in store.edits()]
    digit = next(digit for digit in "0123456789abcdef" if sum(id.startswith(digit) for id in every) > 1)
    same = [id for id in every if id.startswith(digit)]
    with pytest.raises(StoreError, match=rf"'{digit}' begins the ids of .*{same[-1]}.*give more digits"):
        store.find(digit)
    for nothing in ("xyz", every[0] + "0", "%", "_" * 12):
        with pytest.raises(StoreError, match=rf"begins with '{nothing}'; it has .*{every[-1]}, 35 more"):
            store.find(nothing)
    with pytest.raises(StoreError, match="id must not be empty"):
        store.find("")


@pytest.mark.parametrize("id", ["\udcff", "é", 2**64, b"a", None], ids=ascii)
def test_values_that_are_no_ids_find_no_edit(store: EditStore, id: Any) -> None:
    with store.writing():
        for look_up in (store.find, store.undo, store.redo, store.delta):
            with pytest.raises(StoreError, match=r"No edit in|must not be empty"):
                look_up(id)


def test_writing_demands_the_lock(store: EditStore, small_delta: Deltas) -> None:
    id = store.edits()[0].id
    before = content(store)
    for change in (
        lambda: store.add(EditRequest("a", "b"), small_delta(9), {}),
        lambda: store.undo(id),
        lambda: store.redo(id),
        lambda: store.note(id, "x"),
        store.collect_orphans,
    ):
        with pytest.raises(StoreError, match="is open for reading"):
            change()
    assert content(store) == before
    assert len(list((store.folder / "deltas").iterdir())) == 3


@given(st.lists(st.sampled_from(["add", "undo", "redo", "note"]), max_size=15), st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_any_sequence_of_changes_is_what_a_plain_list_says(
    base: BaseIdentity, small_delta: Deltas, changes: list[str], chance: random.Random
) -> None:
    naive: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        EditStore.open(folder, base, create=True)
        for number, change in enumerate(changes):
            store = EditStore.open(folder, base)
            with store.writing():
                if change == "add":
                    edit = store.add(EditRequest(str(number), "x"), small_delta(number), {})
                    naive.append([edit.id, str(number), True])
                    continue
                if not naive:
                    continue
                chosen = chance.choice(naive)
                if change == "note":
                    store.note(chosen[0], "remark")
                elif chosen[2] == (change == "redo"):
                    with pytest.raises(StoreError, match="already"):
                        getattr(store, change)(chosen[0])
                else:
                    getattr(store, change)(chosen[0])
                    chosen[2] = change == "redo"
        store = EditStore.open(folder)
        assert [[edit.id, edit.request.prompt, edit.active] for edit in store.edits()] == naive
        assert store.verify() == []


def test_promise_4_another_base_is_refused_and_force_is_recorded(store: EditStore, base: BaseIdentity) -> None:
    before = content(store)
    for other in (OTHER, replace(base, architecture="GPT2LMHeadModel")):
        with pytest.raises(WrongBaseError, match=rf"of tiny \(LlamaForCausalLM, abab.*, not of {other.name} \("):
            EditStore.open(store.folder, other)
    EditStore.open(store.folder, replace(base, name="/models/renamed"))
    assert content(store) == before
    forced = EditStore.open(store.folder, OTHER, force=True)
    last = forced.history()[-1]
    assert (last.kind, last.edit, last.detail["sha256"]) == ("force", None, OTHER.sha256)
    assert forced.base == base
    EditStore.open(store.folder, base, force=True)
    assert len(forced.history()) == 7
    with pytest.raises(WrongBaseError):
        EditStore.open(store.folder, OTHER)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "is not a roselora edit store"),
        (lambda path: path.write_bytes(b"no database, but long enough to look at it twice" * 100), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "is damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
    ],
    ids=["empty", "text", "truncated", "folder", "pipe"],
)
def test_promise_2_what_is_no_database_is_one_typed_error(
    store: EditStore, make: Callable[[Path], object], message: str
) -> None:
    make(store.folder / "edits.sqlite")
    with pytest.raises(StoreError, match=message):
        content(EditStore.open(store.folder))
    assert_harmful(store, message)


def test_promise_2_another_programs_database_and_a_newer_schema_are_refused(store: EditStore) -> None:
    run_sql(store, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"has schema 99, and this roselora knows \d+; use a newer roselora"):
        EditStore.open(store.folder)
    run_sql(store, "PRAGMA user_version = 1", "PRAGMA application_id = 7")
    with pytest.raises(StoreError, match="is not a roselora edit store"):
        EditStore.open(store.folder)


def test_a_store_may_be_moved_and_copied(store: EditStore, tmp_path: Path) -> None:
    before = content(store)
    copy = tmp_path / "eine Kopie? 100%#1"
    shutil.copytree(store.folder, copy)
    shutil.rmtree(store.folder)
    moved = EditStore.open(copy)
    assert content(moved) == before
    assert moved.verify() == []
    with moved.writing():
        moved.undo(moved.active()[0].id)
