"""A store that two processes use at once, or that the user may only read."""

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

from roselora.editing.store.edit_store import EditStore
from tests.editing.store.contents import state

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


SECOND_PROCESS = """
import json, sys
from roselora.editing.store import schema
from roselora.editing.store.edit_store import EditStore
from roselora.writer_lock import LockedError

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
