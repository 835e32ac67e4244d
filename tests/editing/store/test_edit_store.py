"""The edit store: what goes in comes out, and nothing that was altered does."""

import os
import random
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing.request import EditRequest
from roselora.editing.store import edit_rows
from roselora.editing.store.edit_records import BaseIdentity, StoredEdit
from roselora.editing.store.edit_store import EditStore
from roselora.errors import ConfigError, FileFormatError, NonFiniteError, StoreError, WrongBaseError
from roselora.files import sha256_file, write_atomically

Deltas = Callable[[float], SparseDelta]
OTHER = BaseIdentity("other", "LlamaForCausalLM", "cd" * 32)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip() != "")


def content(store: EditStore) -> tuple[Any, ...]:
    return store.base, store.edits(), store.history()


def run_sql(store: EditStore, *statements: str) -> None:
    with closing(sqlite3.connect(store.folder / "edits.sqlite")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def file_of(store: EditStore, edit: StoredEdit) -> Path:
    return store.folder / "deltas" / f"{edit.delta_sha256}.safetensors"


def assert_harmful(store: EditStore, message: str) -> None:
    problems = store.verify()
    assert problems
    assert any(re.search(message, problem.what) and not problem.harmless for problem in problems), problems


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


def test_a_request_with_a_wrong_type_is_refused_and_not_called_damage(store: EditStore, small_delta: Deltas) -> None:
    before = content(store)
    request = EditRequest("a", "b")
    object.__setattr__(request, "subject", 5)
    with store.writing(), pytest.raises(ConfigError, match=r"request\.subject: Input should be a valid string"):
        store.add(request, small_delta(1), {})
    assert content(store) == before


def far_delta(value: float) -> SparseDelta:
    """Adds `value` to one entry of a weight in half precision."""
    factors = SparseFactors.from_factors(
        "w", torch.tensor([[0.0, value]]), torch.ones(1, 1), 1.0, base_dtype=torch.float16, base_sha256="0" * 64
    )
    return SparseDelta((factors,))


def test_promise_3_an_undo_or_redo_after_which_the_others_are_too_much_for_the_dtype_is_refused(
    store: EditStore,
) -> None:
    with store.writing():
        up, down, again = (store.add(EditRequest("a", "b"), far_delta(v), {}) for v in (6e4, -6e4, 6e4))
        before = content(store)
        with pytest.raises(NonFiniteError, match="w would not be finite in float16"):
            store.undo(down.id)
        assert content(store) == before
        store.undo(again.id)
        store.undo(down.id)
        before = content(store)
        with pytest.raises(NonFiniteError, match="w would not be finite in float16"):
            store.redo(again.id)
        assert content(store) == before
        store.undo(up.id)
        store.redo(again.id)


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


def test_a_base_without_a_proper_hash_is_refused() -> None:
    with pytest.raises(ConfigError, match="64 lower-case"):
        BaseIdentity("x", "y", "AB" * 32)


def test_a_missing_store_is_an_error_and_nothing_is_made(tmp_path: Path, base: BaseIdentity) -> None:
    for arguments in ((tmp_path / "no",), (tmp_path / "no", base)):
        with pytest.raises(StoreError, match="There is no edit store in"):
            EditStore.open(*arguments)
    with pytest.raises(StoreError, match="There is no edit store in"):
        EditStore.open(tmp_path / "no", create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_never_made_among_other_things(tmp_path: Path, base: BaseIdentity) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(StoreError, match="holds other things"):
        EditStore.open(tmp_path, base, create=True)
    with pytest.raises(StoreError, match=r"thesis\.tex cannot be used"):
        EditStore.open(tmp_path / "thesis.tex", base, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_deltas_that_lost_their_database_are_not_taken_over(store: EditStore, base: BaseIdentity) -> None:
    (store.folder / "edits.sqlite").unlink()
    with pytest.raises(StoreError, match="holds other things"):
        EditStore.open(store.folder, base, create=True)
    assert len(list((store.folder / "deltas").iterdir())) == 3


def test_create_opens_a_store_that_is_there(store: EditStore, base: BaseIdentity) -> None:
    before = content(store)
    assert content(EditStore.open(store.folder, base, create=True)) == before
    with pytest.raises(WrongBaseError):
        EditStore.open(store.folder, OTHER, create=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "is not a roselora edit store"),
        (lambda path: path.write_bytes(b"no database, but long enough to look at it twice" * 100), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "is damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "no ordinary file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "no ordinary file"),
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


def test_promise_2_any_flipped_bit_in_the_database_is_refused_or_changes_nothing(store: EditStore) -> None:
    before, path = content(store), store.folder / "edits.sqlite"
    data, chance = path.read_bytes(), random.Random(0)
    used = [place for place, byte in enumerate(data) if byte]
    refused = 0
    for _ in range(500):
        place = chance.choice(used)
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
        try:
            assert content(EditStore.open(store.folder)) == before
        except StoreError:
            refused += 1
            assert_harmful(store, "")
    assert refused > 300


def test_promise_2_any_flipped_bit_in_a_delta_file_is_refused(store: EditStore) -> None:
    edit = store.edits()[0]
    path = file_of(store, edit)
    data, chance = path.read_bytes(), random.Random(0)
    for _ in range(50):
        place = chance.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
        with pytest.raises(FileFormatError, match="is damaged"):
            store.delta(edit.id)
    assert_harmful(store, "is damaged")
    path.write_bytes(data)
    assert store.verify() == []


def test_a_missing_delta_is_reported_and_adding_it_again_restores_it(store: EditStore, small_delta: Deltas) -> None:
    edit = store.edits()[0]
    file_of(store, edit).unlink()
    with pytest.raises(FileFormatError, match="cannot be read: No such file"):
        store.delta(edit.id)
    assert_harmful(store, "cannot be read")
    with store.writing():
        store.add(EditRequest("Once more", "x"), small_delta(1), {})
    assert store.verify() == []


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE edits SET active = 1", "is active, which contradicts its history"),
        ("DELETE FROM events WHERE kind = 'undo'", "is undone, which contradicts its history"),
        ("DELETE FROM events WHERE number = 2", r"contradicts its history \(none\)"),
        ("DELETE FROM events WHERE number = 1", "first event"),
        ("DELETE FROM events WHERE kind = 'note' OR number = 5", ""),
        ("DELETE FROM edits WHERE position = 2", "refers to one of edits"),
        ("UPDATE edits SET request = replace(request, 'Fact', 'Fart')", "its id is not the hash of its contents"),
        ("UPDATE edits SET position = position + 1 WHERE position = 3", "its id is not the hash of its contents"),
        ("UPDATE edits SET provenance = x'00'", "is damaged"),
        ("UPDATE edits SET delta_sha256 = '../../thesis'", "is damaged"),
        ("UPDATE events SET detail = '{}' WHERE kind = 'note'", "Event 6 .* digest does not match"),
        ("CREATE TRIGGER spy AFTER INSERT ON events BEGIN DELETE FROM edits; END", "not defined as"),
    ],
)
def test_verify_sees_rows_that_contradict_each_other(store: EditStore, statement: str, message: str) -> None:
    run_sql(store, statement)
    assert_harmful(store, message)
    assert not any(problem.harmless for problem in store.verify())


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
        {"request": good, "provenance": "null"},
        {"request": good, "provenance": "{}", "created": "yesterday\x1b[2J"},
        {"request": good, "provenance": "{}", "created": "2026-01-01T00:00:00+00:00", "delta_sha256": "../x"},
    ):
        forged(store, **columns)
        with pytest.raises(StoreError, match=r"Edit '[0-9a-f]{12}' at position 1 is damaged"):
            store.edits()


def test_orphans_are_harmless_and_only_they_are_collected(store: EditStore) -> None:
    before, deltas = content(store), store.folder / "deltas"
    orphans = [
        deltas / f"{'0' * 64}.safetensors",
        deltas / f".{'0' * 40}.{'1' * 16}.tmp",
        store.folder / f".lock.holder.{'2' * 16}.tmp",
    ]
    others = [deltas / "notes.txt", deltas / "model.safetensors", store.folder / ".hidden.tmp"]
    for path in orphans + others:
        path.write_bytes(b"something")
    found = store.verify()
    assert sorted(problem.path for problem in found) == sorted(orphans)
    assert all(problem.harmless for problem in found)
    with store.writing():
        assert store.collect_orphans() == sorted(orphans)
        assert store.collect_orphans() == []
    assert store.verify() == []
    assert all(path.exists() for path in others)
    assert content(store) == before
    for edit in store.edits():
        store.delta(edit.id)


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM edits WHERE position = 3", "UPDATE edits SET delta_sha256 = 'f' WHERE position = 3"],
)
def test_nothing_is_collected_by_a_damaged_database(store: EditStore, statement: str) -> None:
    run_sql(store, statement)
    with store.writing(), pytest.raises(StoreError):
        store.collect_orphans()
    assert len(list((store.folder / "deltas").iterdir())) == 3


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


def test_a_temporary_file_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roselora import files

    names = []
    monkeypatch.setattr(files.os, "replace", lambda source, target: names.append(source))
    write_atomically(tmp_path / f"{'a' * 64}.safetensors", b"x")
    write_atomically(tmp_path / "edits.sqlite", b"x")
    assert all(files.is_temporary(name) for name in names)
    assert not files.is_temporary(tmp_path / "edits.sqlite")
