"""What verify reports, and what it lets a user remove."""

import random
from collections.abc import Callable

import pytest

from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_store import EditStore
from roselora.errors import FileFormatError, StoreError
from tests.editing.store.contents import assert_harmful, content, file_of, run_sql

Deltas = Callable[[float], SparseDelta]


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
