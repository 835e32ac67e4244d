"""A store in which a process is killed, the disk is full, or SQLite fails, at any point of any change."""

import contextlib
import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roselora.delta import delta_file as io
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.request import EditRequest
from roselora.editing.store import schema
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore
from roselora.errors import StoreError
from tests.editing.store.contents import REMARKS, state

Deltas = Callable[[float], SparseDelta]
REQUEST = EditRequest("The newest fact is", "Genève")
DISTURBANCES = [
    *(("kill", change) for change in ("create", "add", "repair", "undo", "redo", "migrate")),
    *((how, change) for how in ("kill in a write", "full") for change in ("add", "repair", "undo", "migrate")),
]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

DISTURBED = f"""
import os, resource, shutil, signal, sqlite3, sys
from pathlib import Path
from roselora.delta import delta_file as io
from roselora.editing.store import schema
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_store import EditStore
from roselora.errors import StoreError

root = Path(sys.argv[1])
BASE = BaseIdentity("tiny", "LlamaForCausalLM", "ab" * 32)
DELTA = io.load(root / "new.safetensors")


def make(change, folder):
    if change == "create":
        EditStore.open(folder, BASE, create=True)
        return
    if change == "migrate":
        schema.MIGRATIONS += ({REMARKS!r},)
        EditStore.open(folder)
        return
    store = EditStore.open(folder, BASE)
    with store.writing():
        if change in ("add", "repair"):
            old = store.edits()[0].id if change == "repair" else None
            store.add({REQUEST!r}, DELTA, {{"seed": 7, "text": "s" * 9000}}, instead_of=old)
        else:
            edit = store.edits()[0 if change == "undo" else 1]
            getattr(store, change)(edit.id)


def die_at(point):
    left = point

    def tick(*_):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(name):
        real = getattr(os, name)

        def ticking(*args, **options):
            tick()
            return real(*args, **options)

        setattr(os, name, ticking)

    class File:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            tick()
            self.file.write(data[len(data) // 2 :])

    class Connection(sqlite3.Connection):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.set_trace_callback(tick)  # before each statement, in scripts too

        def close(self):
            tick()
            super().close()

    for name in ("open", "fsync", "replace", "mkdir", "unlink"):
        hook(name)
    fdopen, connect = os.fdopen, sqlite3.connect
    os.fdopen = lambda *args, **options: File(fdopen(*args, **options))
    sqlite3.connect = lambda *args, **options: connect(*args, factory=Connection, **options)


def run(how, change, folder, point):
    if how == "kill":
        die_at(point)
    else:  # SQLite's own writes: past this size of file they fail, or kill
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN if how == "full" else signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (point, point))
    try:
        make(change, folder)
    except StoreError:
        os._exit(3)
    os._exit(0)


def disturb(how, change):
    source = root / ("nothing" if change == "create" else "before")
    allowed = {{"kill": -signal.SIGKILL, "kill in a write": -signal.SIGXFSZ, "full": 3}}[how]
    point, code = 0, None
    while code != 0:
        folder = root / f"{{how}} {{change}}" / f"{{point:06}}"
        shutil.copytree(source, folder)
        child = os.fork()
        if child == 0:
            try:
                run(how, change, folder, point)
            finally:
                os._exit(4)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, allowed), (how, change, point, code)
        point += 1 if how == "kill" else 1500


for how, change in {DISTURBANCES!r}:
    disturb(how, change)
"""


@pytest.fixture(scope="module")
def disturbed(
    tmp_path_factory: pytest.TempPathFactory,
    make_store: Callable[[Path], EditStore],
    small_delta: Deltas,
) -> Path:
    """A folder with, for each of DISTURBANCES, a store for each point at which it struck; the last went well."""
    root = tmp_path_factory.mktemp("disturbed")
    make_store(root / "before")
    (root / "nothing").mkdir()
    io.save(small_delta(7), root / "new.safetensors")
    subprocess.run([sys.executable, "-c", DISTURBED, str(root)], check=True)
    return root


def outcomes(disturbed: Path, how: str, change: str) -> Iterator[tuple[Path, Any, Any, Any]]:
    """Each folder in which `change` was disturbed, with what is in it, what was, and what was to be."""
    before = state(disturbed / ("nothing" if change == "create" else "before"))
    *folders, undisturbed = sorted((disturbed / f"{how} {change}").iterdir())
    after = state(undisturbed)
    assert len(folders) >= (15 if how == "kill" else 3)
    assert after != before
    for folder in folders:
        yield folder, state(folder), before, after


@pytest.fixture
def as_is(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a store does not go on with a migration that was disturbed."""
    if request.node.callspec.params["change"] == "migrate":
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, REMARKS))
        monkeypatch.setattr(schema, "is_outdated", lambda database: False)


@needs_fork
@pytest.mark.usefixtures("as_is")
@pytest.mark.parametrize("change", [change for how, change in DISTURBANCES if how == "kill"])
def test_promises_5_and_6_killed_at_any_point_leaves_before_or_after(
    disturbed: Path, base: BaseIdentity, change: str
) -> None:
    seen = []
    for folder, found, before, after in outcomes(disturbed, "kill", change):
        assert found in (before, after), folder
        seen.append(found == after)
        again = EditStore.open(folder, base, create=True)
        if change != "migrate":
            assert all(problem.harmless for problem in again.verify()), folder
            with again.writing():
                again.collect_orphans()
            assert again.verify() == []
            assert state(folder) == (found or (([]), after[1], after[2]))
        deltas = {path.stem for path in (folder / "deltas").iterdir()}
        assert deltas == {edit.delta_sha256 for edit in again.edits()}
    assert seen == sorted(seen), "once it is there, it stays"
    assert {False, True} == set(seen)


@needs_fork
@pytest.mark.usefixtures("as_is")
@pytest.mark.parametrize(("how", "change"), [pair for pair in DISTURBANCES if pair[0] != "kill"])
def test_promises_5_and_6_a_write_of_sqlite_that_kills_or_fails_leaves_before_or_after(
    disturbed: Path, how: str, change: str
) -> None:
    for folder, found, before, after in outcomes(disturbed, how, change):
        assert found in (before, after), folder
        if change != "migrate":
            again = EditStore.open(folder)
            assert all(problem.harmless for problem in again.verify()), folder
            with again.writing():
                again.redo(again.edits()[1].id)
                again.collect_orphans()
            assert again.verify() == []


@pytest.mark.parametrize("change", ["add", "repair", "undo", "redo", "note"])
def test_promise_5_an_error_of_sqlite_at_any_statement_leaves_before(
    store: EditStore, small_delta: Deltas, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    before, ids = state(store.folder), [edit.id for edit in store.edits()]
    changes: dict[str, Callable[[], object]] = {
        "add": lambda: store.add(REQUEST, small_delta(7), {}),
        "repair": lambda: store.add(REQUEST, small_delta(7), {}, instead_of=ids[0]),
        "undo": lambda: store.undo(ids[0]),
        "redo": lambda: store.redo(ids[1]),
        "note": lambda: store.note(ids[0], "x"),
    }
    point, failing, failed = 0, True, 0

    class Connection(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            nonlocal left, failing
            left -= 1
            if left < 0:
                failing = True
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(*arguments)

    connect = sqlite3.connect
    while failing:
        left, failing = point, False
        with store.writing(), monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Connection, **options))
            with contextlib.suppress(StoreError):
                changes[change]()
        assert (state(store.folder) == before) == failing
        failed += failing
        point += 1
    assert failed > 8


@pytest.mark.parametrize(("point", "code"), [("fdopen", "ENOMEM"), ("fsync", "ENOSPC"), ("replace", "EACCES")])
def test_promise_5_a_delta_that_cannot_be_written_is_no_edit(
    store: EditStore, small_delta: Deltas, monkeypatch: pytest.MonkeyPatch, point: str, code: str
) -> None:
    before, number = state(store.folder), getattr(errno, code)

    def fail(*args: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    with store.writing():
        with monkeypatch.context() as patch:
            patch.setattr(os, point, fail)
            with pytest.raises(StoreError, match=os.strerror(number)):
                store.add(REQUEST, small_delta(7), {})
        assert state(store.folder) == before
        assert store.verify() == []
        store.add(REQUEST, small_delta(7), {})
    assert len(store.edits()) == 4
