"""The edit store when a process is killed, the disk is full, two processes meet, or the folder may not be written."""

import contextlib
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
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

Deltas = Callable[[float], SparseDelta]
REQUEST = EditRequest("The newest fact is", "Genève")
REMARKS = "CREATE TABLE remarks (text TEXT); INSERT INTO remarks VALUES ('one'); INSERT INTO remarks VALUES ('two')"
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


def state(folder: Path) -> Any:
    """What a user can see of a store, without times; None where there is none."""
    if not (folder / "edits.sqlite").exists():
        return None
    store = EditStore.open(folder)
    edits = [(edit.position, edit.request, edit.delta_sha256, edit.active, edit.provenance) for edit in store.edits()]
    for edit in store.edits():
        store.delta(edit.id)
    return edits, [(event.kind, event.detail) for event in store.history()], version(folder)


def version(folder: Path) -> tuple[int, list[tuple[str]]]:
    with schema.transaction(folder / "edits.sqlite") as connection:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        remarks = connection.execute("SELECT text FROM remarks").fetchall() if number == 2 else []
    return number, remarks


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


def test_the_errors_of_sqlite_say_what_to_do(store: EditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.0)
    other = sqlite3.connect(store.folder / "edits.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"edits\.sqlite is in use by another program; close that and try again"):
        store.edits()
    other.execute("ROLLBACK")
    other.execute("PRAGMA max_page_count = 1")
    other.close()
    pages = (store.folder / "edits.sqlite").stat().st_size // 4096

    class Small(sqlite3.Connection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.execute(f"PRAGMA max_page_count = {pages}")

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Small, **options))
    before = state(store.folder)
    id = store.edits()[0].id
    with store.writing(), pytest.raises(StoreError, match="because the disk is full; free some space and try again"):
        store.note(id, "long " * 20_000)
    assert state(store.folder) == before


def test_a_migration_brings_an_old_store_up_and_an_older_roselora_then_refuses_it(
    store: EditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits, history = store.edits(), store.history()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, REMARKS))
        assert [problem.what for problem in store.verify()] == [
            f"{store.folder / 'edits.sqlite'} has an old schema; open the store again to upgrade it."
        ]
        newer = EditStore.open(store.folder)
        assert version(store.folder) == (2, [("one",), ("two",)])
        assert (newer.edits(), newer.history(), newer.verify()) == (edits, history, [])
        assert version(EditStore.open(store.folder).folder) == (2, [("one",), ("two",)])
    with pytest.raises(StoreError, match="has schema 2, and this roselora knows 1"):
        EditStore.open(store.folder)


def test_a_migration_that_fails_leaves_the_old_schema(store: EditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(store.folder)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, REMARKS + "; INSERT INTO nowhere VALUES (1)"))
        with pytest.raises(StoreError, match="no such table: nowhere"):
            EditStore.open(store.folder)
    assert state(store.folder) == before
    assert store.verify() == []


SECOND_PROCESS = """
import json, sys
from roselora.editing.store import schema
from roselora.editing.store.edit_store import EditStore
from roselora.files import LockedError

schema.BUSY_SECONDS = 0.0  # any waiting at all would be an error
store = EditStore.open(sys.argv[1])
try:
    with store.writing():
        told = "nobody writes"
except LockedError as error:
    told = str(error)
print(json.dumps([[edit.active for edit in store.edits()], len(store.history()), len(store.verify()), told]))
"""


def second_process(store: EditStore) -> Any:
    command = [sys.executable, "-c", SECOND_PROCESS, str(store.folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_promise_8_a_second_process_is_told_who_writes_and_reads_on_amid_a_transaction(
    store: EditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Connection(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            if arguments[0] == "COMMIT" and self.in_transaction and self.total_changes:
                told.append(second_process(store))
            return super().execute(*arguments)

    connect, id = sqlite3.connect, store.edits()[0].id
    with store.writing(), monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Connection, **options))
        store.undo(id)
    ((actives, events, problems, why),) = told
    assert (actives, events, problems) == ([True, False, True], 6, 0)
    assert f"locked by process {os.getpid()} on " in why
    assert second_process(store) == [[False, False, True], 7, 0, "nobody writes"]


WRITER = """
import itertools, sys
from pathlib import Path
from roselora.editing.store.edit_store import EditStore
store = EditStore.open(sys.argv[1])
first = store.edits()[0].id
with store.writing():
    for number in itertools.count():
        (store.redo if number % 2 else store.undo)(first)
        if Path(sys.argv[2]).exists():
            break
"""


def test_promise_8_a_reader_beside_a_busy_writer_always_sees_one_whole_state(store: EditStore, tmp_path: Path) -> None:
    seen: list[bool] = []
    with subprocess.Popen([sys.executable, "-c", WRITER, str(store.folder), str(tmp_path / "stop")]) as writer:
        try:
            while set(seen[3:]) != {True, False} and writer.poll() is None:
                # Harmless is a file that the writer is just about to rename.
                assert all(problem.harmless for problem in store.verify())
                seen.append(store.edits()[0].active)
        finally:
            (tmp_path / "stop").touch()
    assert writer.returncode == 0
    assert set(seen) == {True, False}


READ_ONLY = """
import json, os, signal, sys
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore
from roselora.errors import RoseLoraError

if os.geteuid() == 0:  # whom no permission stops
    os.setgid(65534)
    os.setuid(65534)
told = []
for work in (
    lambda store: [edit.active for edit in store.edits()] + store.verify(),
    lambda store: sorted(store.delta(store.edits()[0].id).metadata),
    lambda store: store.writing().__enter__(),
    lambda store: EditStore.open(store.folder, BaseIdentity("x", "y", "0" * 64), force=True),
):
    try:
        told.append(work(EditStore.open(sys.argv[1])))
    except RoseLoraError as error:
        told.append(f"{type(error).__name__}: {error}")
print(json.dumps(told))
"""


@pytest.fixture
def read_only_copy(store: EditStore) -> Iterator[Callable[[Path], Any]]:
    """Runs READ_ONLY on a copy of a store that nobody may write."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)

        def run(folder: Path) -> Any:
            copy = Path(scratch) / folder.name
            subprocess.run(["cp", "-R", str(folder), str(copy)], check=True)
            subprocess.run(["chmod", "-R", "a-w,a+rX", str(copy)], check=True)
            command = [sys.executable, "-c", READ_ONLY, str(copy)]
            try:
                return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            finally:
                subprocess.run(["chmod", "-R", "u+w", str(copy)], check=True)

        yield run


@needs_fork
def test_a_store_in_a_read_only_folder_can_be_read(store: EditStore, read_only_copy: Callable[[Path], Any]) -> None:
    active, metadata, writing, force = read_only_copy(store.folder)
    assert active == [True, False, True]
    assert metadata == ["value"]
    assert writing.startswith("StoreError: ")
    assert writing.endswith("lock cannot be used: Permission denied; fix that and try again.")
    assert force == writing


@needs_fork
def test_a_read_only_store_that_was_left_in_the_middle_of_a_commit_says_so(
    store: EditStore, read_only_copy: Callable[[Path], Any]
) -> None:
    dying = f"""
import resource, signal, sys
from roselora.editing.store.edit_store import EditStore
from roselora.editing.store.schema import transaction
store = EditStore.open(sys.argv[1])
size = store._database.stat().st_size
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with transaction(store._database, write=True) as connection:
    connection.execute("UPDATE events SET detail = '{"x" * 30_000}' WHERE number = 1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
"""
    before = state(store.folder)
    died = subprocess.run([sys.executable, "-c", dying, str(store.folder)])
    assert died.returncode == -signal.SIGXFSZ
    for told in read_only_copy(store.folder):
        assert "was left in the middle of a write; open it once where you may write to it" in told
    assert state(store.folder) == before
    assert store.verify() == []
