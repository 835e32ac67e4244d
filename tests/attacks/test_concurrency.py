"""Writers and readers of one store at once: every commit counts once, and nobody reads what never was."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roselora.editing.request import EditRequest
from roselora.editing.store.edit_store import EditStore
from roselora.errors import RoseLoraError
from tests.attacks.attacking import some_in_ci

FORKS = multiprocessing.get_context("forkserver")


def writer(start: Any, told: Any, folder: Path, name: int, turns: int) -> None:
    """Add, undo and redo edits; tell what was committed."""
    store = EditStore.open(folder)
    delta = store.delta(store.edits()[0].id)
    start.wait()
    made: list[str] = []
    commits = refused = 0
    while commits < turns:
        try:
            with store.writing():
                if commits % 3 == 0:
                    made.append(store.add(EditRequest(f"{name} {commits}", "x"), delta, {"by": name}).id)
                elif commits % 3 == 1:
                    store.undo(made[-1])
                else:
                    store.redo(made[-1])
            commits += 1
        except RoseLoraError:
            refused += 1
            time.sleep(0.002)  # the others have the lock
    told.put(("writer", commits, refused, made))


def reader(start: Any, told: Any, folder: Path, name: int, turns: int) -> None:
    """Read the history again and again; it only grows, and what it says is what the edits are."""
    store = EditStore.open(folder)
    start.wait()
    seen, wrong = 0, 0
    for _ in range(turns * 4):
        try:
            history = store.history()
            wrong += len(history) < seen
            seen = len(history)
            wrong += any(not problem.harmless for problem in store.verify())
        except RoseLoraError:
            wrong += 1
    told.put(("reader", 0, wrong, []))


def together(folder: Path, workers: list[Callable[..., None]], turns: int) -> list[tuple[str, int, int, list[str]]]:
    start, told = FORKS.Event(), FORKS.Queue()
    processes = [
        FORKS.Process(target=worker, args=(start, told, folder, name, turns)) for name, worker in enumerate(workers)
    ]
    for process in processes:
        process.start()
    start.set()
    found = [told.get(timeout=200) for _ in processes]
    for process in processes:
        process.join()
    return found


@pytest.mark.parametrize("writers", some_in_ci([2, 1, 3, 4], every=4))
def test_writers_and_a_reader(store: Path, writers: int) -> None:
    before = len(EditStore.open(store).history())
    found = together(store, [writer] * writers + [reader], turns=6)
    commits = sum(count for kind, count, _, _ in found if kind == "writer")
    assert [wrong for kind, _, wrong, _ in found if kind == "reader"] == [0]
    after = EditStore.open(store)
    assert len(after.history()) == before + commits == before + 6 * writers
    ids = {edit.id for edit in after.edits()}
    assert all(id in ids for _, _, _, made in found for id in made)
    assert after.verify() == []


def undoer(start: Any, told: Any, folder: Path, name: int, turns: int) -> None:
    store = EditStore.open(folder)
    id = store.edits()[0].id
    start.wait()
    for _ in range(turns):
        try:
            with store.writing():
                store.undo(id)
            told.put(("undone", 1, 0, []))
            return
        except RoseLoraError as error:
            if "already" in str(error):
                break
            time.sleep(0.002)
    told.put(("refused", 0, 1, []))


@pytest.mark.parametrize("number", some_in_ci(range(4), every=4))
def test_one_edit_is_undone_once(store: Path, number: int) -> None:
    found = together(store, [undoer] * 3, turns=10_000)
    assert sum(count for _, count, _, _ in found) == 1
    assert EditStore.open(store).verify() == []
