"""The edit store keeps its promises: whole or absent, one writer, damage found, another base refused."""

import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing import schema
from roselora.editing.request import EditRequest
from roselora.editing.store import BaseIdentity, EditStore
from roselora.errors import FileFormatError, NonFiniteError, RoseLoraError, StoreError, WrongBaseError
from roselora.files import LockedError

BASE = BaseIdentity("demo", "LlamaForCausalLM", "a" * 64)


def delta(seed: int = 0) -> SparseDelta:
    generator = torch.Generator().manual_seed(seed)
    factors = SparseFactors.from_factors(
        "layer.weight",
        torch.randn(2, 6, generator=generator),
        torch.randn(4, 2, generator=generator),
        0.5,
        base_dtype=torch.float32,
        base_sha256="b" * 64,
    )
    return SparseDelta((factors,), {"seed": seed})


REQUEST = EditRequest("Die Hauptstadt von Österreich ist", "グラーツ", keep=("Wien liegt an der",))


def add(store: EditStore, seed: int = 0) -> str:
    with store.writing():
        return store.add(REQUEST, delta(seed), {"seed": seed}).id


@pytest.fixture
def store(tmp_path: Path) -> EditStore:
    return EditStore.open(tmp_path / "edits", BASE, create=True)


def state(folder: Path) -> list[tuple[str, bool]]:
    return [(edit.id, edit.active) for edit in EditStore.open(folder).edits()]


# What it remembers


def test_an_edit_is_given_back_as_it_was_added(store: EditStore) -> None:
    edit = EditStore.open(store.folder).find(add(store))
    assert edit.request == REQUEST
    assert (edit.position, edit.active, edit.provenance) == (0, True, {"seed": 0})
    (kept,), (added,) = store.delta(edit.id).weights, delta().weights
    assert torch.equal(kept.a_values, added.a_values)
    assert torch.equal(kept.b_rows, added.b_rows)


def test_undo_and_redo_keep_the_position_and_become_history(store: EditStore) -> None:
    ids = [add(store, seed) for seed in range(3)]
    with store.writing():
        store.undo(ids[1])
        store.note(ids[1], "was wrong")
        assert [edit.id for edit in store.active()] == [ids[0], ids[2]]
        assert store.redo(ids[1]).position == 1
    assert [edit.id for edit in store.active()] == ids
    events = [(event.kind, event.text) for event in store.history(ids[1])]
    assert events == [("edit", None), ("undo", None), ("note", "was wrong"), ("redo", None)]
    assert len(store.history()) == 6


def test_an_edit_in_that_state_already_is_refused(store: EditStore) -> None:
    edit_id = add(store)
    with store.writing():
        with pytest.raises(StoreError, match="active already"):
            store.redo(edit_id)
        store.undo(edit_id)
        with pytest.raises(StoreError, match="undone already"):
            store.undo(edit_id)


def test_the_same_delta_twice_is_two_edits_of_one_file(store: EditStore) -> None:
    first, second = add(store), add(store)
    assert first != second
    assert len(list((store.folder / "deltas").iterdir())) == 1


def test_an_edit_is_found_by_any_prefix_that_no_other_shares(store: EditStore) -> None:
    ids = [add(store, seed) for seed in range(20)]
    assert store.find(ids[0].upper()).id == ids[0]
    shared = next(a[0] for a in ids if sum(b[0] == a[0] for b in ids) > 1)
    with pytest.raises(StoreError, match="could be any of"):
        store.find(shared)
    for unknown in ("", "zz", "%"):
        with pytest.raises(StoreError, match="no edit"):
            store.find(unknown)


def test_a_change_outside_of_writing_is_a_mistake_of_the_caller(store: EditStore) -> None:
    with pytest.raises(AssertionError):
        store.add(EditRequest("a", "b"), delta(), {})


# Which folders it opens


def test_a_missing_store_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no edit store"):
        EditStore.open(tmp_path / "edits")
    assert not (tmp_path / "edits").exists()


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="other things"):
        EditStore.open(tmp_path, BASE, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_promise_4_another_base_is_refused_and_force_is_remembered(store: EditStore) -> None:
    EditStore.open(store.folder, BaseIdentity("elsewhere/demo", BASE.architecture, BASE.sha256))
    for other in (
        BaseIdentity("other", BASE.architecture, "c" * 64),
        BaseIdentity("other", "GPT2LMHeadModel", "a" * 64),
    ):
        with pytest.raises(WrongBaseError, match=r"belongs to demo .* not to other"):
            EditStore.open(store.folder, other)
    assert store.history() == []
    EditStore.open(store.folder, other, force=True)
    assert [(event.kind, event.edit_id) for event in store.history()] == [("force", None)]
    assert "GPT2LMHeadModel" in str(store.history()[0].text)


# Damage


def test_promise_2_a_flipped_bit_or_a_missing_file_is_found(store: EditStore) -> None:
    edit_id = add(store)
    path = next((store.folder / "deltas").iterdir())
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(FileFormatError, match="changed since it was committed"):
            store.delta(edit_id)
    assert [problem.serious for problem in store.verify()] == [True]
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        store.delta(edit_id)
    assert [problem.serious for problem in store.verify()] == [True]
    path.write_bytes(data)
    assert store.verify() == []


@pytest.mark.parametrize("text", [b"", b"not a database at all, but a text that is long enough" * 20])
def test_promise_2_a_file_that_is_no_database_is_refused(store: EditStore, text: bytes) -> None:
    (store.folder / "edits.sqlite").write_bytes(text)
    with pytest.raises(StoreError, match=r"edits\.sqlite"):
        EditStore.open(store.folder)


def test_promise_2_a_damaged_database_is_one_typed_error_wherever_it_is_damaged(store: EditStore) -> None:
    add(store)
    path = store.folder / "edits.sqlite"
    data = path.read_bytes()
    for start in range(0, len(data), 512):
        path.write_bytes(data[:start] + b"\xff" * 512 + data[start + 512 :])
        with contextlib.suppress(RoseLoraError):  # any other exception fails the test
            opened = EditStore.open(store.folder)
            opened.verify()
            opened.edits()
    path.write_bytes(data)
    assert store.verify() == []


def test_a_damaged_row_and_a_state_against_its_history_are_found(store: EditStore) -> None:
    edit_id = add(store)
    with sqlite3.connect(store.folder / "edits.sqlite") as database:
        database.execute("UPDATE edits SET active = 0")
    assert "contradicts" in store.verify()[0].what
    with sqlite3.connect(store.folder / "edits.sqlite") as database:
        database.execute("UPDATE edits SET request = '{}'")
    with pytest.raises(StoreError, match=f"Edit {edit_id} .* damaged"):
        store.edits()


def test_a_database_of_something_else_or_of_a_newer_version_is_refused(store: EditStore) -> None:
    path = store.folder / "edits.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer"):
        EditStore.open(store.folder)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match="something else"):
        EditStore.open(store.folder)


def test_promise_3_what_is_not_finite_cannot_be_stored(store: EditStore) -> None:
    factors = delta().weights[0]
    values = factors.a_values.clone()
    values[0, 0] = torch.nan
    with pytest.raises(NonFiniteError):
        replace(factors, a_values=values)
    with pytest.raises(ValueError, match="JSON"), store.writing():
        store.add(EditRequest("a", "b"), delta(), {"loss": float("nan")})
    assert store.edits() == []


# Crashes and faults


CHILD = """
    import os, signal, sqlite3, sys
    from pathlib import Path
    from roselora.editing import schema, store as store_module
    from roselora.editing.store import BaseIdentity, EditStore
    from roselora.editing.request import EditRequest
    from roselora.delta.io import load
    import roselora.files as files

    folder, action, die_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    calls = 0

    def dying(function):
        def call(*arguments, **options):
            global calls
            calls += 1
            if calls == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call

    class Dying(sqlite3.Connection):
        def execute(self, *arguments):
            return dying(super().execute)(*arguments)
        def commit(self):
            dying(super().commit)()

    connect = sqlite3.connect
    schema.sqlite3.connect = lambda *a, **k: connect(*a, factory=Dying, **k)
    os.fsync, os.replace, os.open = dying(os.fsync), dying(os.replace), dying(os.open)

    store = EditStore.open(folder, BaseIdentity("demo", "LlamaForCausalLM", "a" * 64), create=True)
    if action != "create":
        with store.writing():
            if action == "add":
                store.add(EditRequest("new", "edit"), load(sys.argv[4]), {})
            else:
                getattr(store, action)(sys.argv[4])
"""


def run_child(folder: Path, action: str, die_at: int, argument: str = "") -> int:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), action, str(die_at), argument]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode


DIE_AT = (4, 9, 14, 18, 21, 24, 99)


@pytest.mark.parametrize("action", ["add", "undo", "redo"])
def test_promise_6_a_kill_at_any_step_leaves_an_edit_wholly_there_or_wholly_absent(
    store: EditStore, tmp_path: Path, action: str
) -> None:
    from roselora.delta.io import save

    first = add(store)
    save(delta(7), tmp_path / "new.safetensors")
    argument = str(tmp_path / "new.safetensors") if action == "add" else first
    outcomes = set()
    for die_at in DIE_AT:
        if action == "redo":
            with store.writing():
                if store.find(first).active:
                    store.undo(first)
        elif action == "undo":
            with store.writing():
                if not store.find(first).active:
                    store.redo(first)
        before = state(store.folder)
        code = run_child(store.folder, action, die_at, argument)
        after = state(store.folder)
        assert not [problem for problem in store.verify() if problem.serious]
        changed = before != after
        if action == "add":
            assert after[: len(before)] == before
            assert len(after) - len(before) in (0, 1)
        if code == 0:
            assert changed
        outcomes.add((code == 0, changed))
        with store.writing():
            store.collect_orphans()
        assert store.verify() == []
        if code == 0:
            break
    assert (False, False) in outcomes, "some kill came before the commit"
    assert (True, True) in outcomes, "the last child lived"


def test_promise_5_a_kill_in_creation_leaves_no_half_made_store(tmp_path: Path) -> None:
    for die_at in (2, 9, 16, 23, 30, 99):
        folder = tmp_path / str(die_at)
        code = run_child(folder, "create", die_at)
        EditStore.open(folder, BASE, create=True).verify()
        assert state(folder) == []
        if code == 0:
            return
    pytest.fail("creation was killed every time")


@pytest.mark.parametrize("where", ["file", "transaction"])
def test_promise_5_a_full_disk_leaves_the_store_as_it_was(
    store: EditStore, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    add(store)
    before = state(store.folder)

    def full(*arguments: Any, **options: Any) -> Any:
        if where == "file":
            raise OSError(errno.ENOSPC, "No space left on device")
        raise sqlite3.OperationalError("database or disk is full")

    with store.writing():
        if where == "file":
            monkeypatch.setattr("roselora.editing.store.write_atomically", full)
        else:
            monkeypatch.setattr("roselora.editing.store._add_event", full)
        with pytest.raises(StoreError, match=r"No space|disk is full"):
            store.add(EditRequest("a", "b"), delta(5), {})
    monkeypatch.undo()
    assert state(store.folder) == before
    assert not [problem for problem in store.verify() if problem.serious]


# One writer, many readers


def test_promise_8_a_second_process_is_told_who_holds_the_lock(store: EditStore) -> None:
    with store.writing(), pytest.raises(LockedError, match=f"process {os.getpid()} on "):
        add(EditStore.open(store.folder))
    add(store)


def start(program: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_promise_8_readers_are_not_held_up_and_a_killed_writer_frees_the_lock(store: EditStore) -> None:
    edit_id = add(store)
    program = """
        import sys
        from roselora.editing import schema
        from roselora.editing.store import EditStore
        store = EditStore.open(sys.argv[1])
        with store.writing(), schema.connection(store._database) as database, schema.transaction(database):
            database.execute("UPDATE edits SET active = 0")
            print("in the middle", flush=True)
            sys.stdin.read()
    """
    writer = start(program, store.folder)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "in the middle\n"
    assert state(store.folder) == [(edit_id, True)]
    with pytest.raises(LockedError, match=f"process {writer.pid} on "):
        add(store)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert state(store.folder) == [(edit_id, True)]
    add(store, 1)
    assert store.verify() == []


# Migrations


SECOND = "ALTER TABLE edits ADD COLUMN colour TEXT; CREATE TABLE colours (name TEXT)"


def test_an_old_store_is_brought_up_to_date_step_by_step(store: EditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_id = add(store)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, SECOND))
    assert EditStore.open(store.folder).find(edit_id).active
    with sqlite3.connect(store.folder / "edits.sqlite") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
        assert database.execute("SELECT colour FROM edits").fetchall() == [(None,)]


def test_a_migration_that_fails_in_its_middle_leaves_the_old_version(
    store: EditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_id = add(store)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, f"{SECOND}; CREATE TABLE colours (again TEXT)"))
        with pytest.raises(StoreError):
            EditStore.open(store.folder)
    with sqlite3.connect(store.folder / "edits.sqlite") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert not database.execute("SELECT name FROM sqlite_master WHERE name = 'colours'").fetchall()
    assert EditStore.open(store.folder).find(edit_id).active


# The whole of it, killed while it trains


TRAINING = """
    import os, signal, sys
    from pathlib import Path
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from roselora.editing.editor import Editor
    from roselora.editing.settings import EditSettings
    from roselora.editing.store import EditStore
    from roselora.models import load

    folder, store, moment = sys.argv[1:]

    def die(*arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    settings = EditSettings(warmup=2, ramp=6, learning_rate=2e-2, density=0.25, keep_weight=0.1)
    editor = Editor(load(folder), settings, store)
    if moment == "after the file":
        import roselora.editing.store as module
        module._new_id = die
    def on_step(step, loss):
        if step == 4 and moment == "training":
            die()

    editor.edit("The capital of France is", "Lyon", on_step=on_step)
"""


@pytest.mark.parametrize("moment", ["training", "after the file"])
def test_promise_6_a_kill_in_an_edit_leaves_no_edit_and_a_store_that_works(
    world_model: Any, tiny_tokenizer: Any, tmp_path: Path, moment: str
) -> None:
    from roselora.editing.editor import Editor
    from roselora.editing.settings import EditSettings
    from roselora.models import load

    world_model.save_pretrained(tmp_path / "world")
    tiny_tokenizer.save_pretrained(tmp_path / "world")
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(TRAINING),
        str(tmp_path / "world"),
        str(tmp_path / "edits"),
        moment,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr

    store = EditStore.open(tmp_path / "edits")
    assert store.edits() == []
    assert [problem.serious for problem in store.verify()] == ([] if moment == "training" else [False])
    with store.writing():
        store.collect_orphans()
    settings = EditSettings(warmup=2, ramp=6, learning_rate=2e-2, density=0.25, keep_weight=0.1)
    editor = Editor(load(tmp_path / "world"), settings, tmp_path / "edits")
    editor.edit("The capital of France is", "Lyon")
    assert editor.answers(["The capital of France is"]) == ["Lyon"]
    assert store.verify() == []
