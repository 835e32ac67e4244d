"""Signals at random moments: a store or an output is as before or as after, its lock is free, and the command works."""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from roselora.cli import main as module
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_store import EditStore
from tests.attacks.attacking import contents, roselora, some_in_ci
from tests.attacks.test_files import FACT, QUICK, prepare_run
from tests.commands import _become

FORKS = multiprocessing.get_context("forkserver")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

VERBS = ("undo", "redo", "edit", "edit --from", "repair", "export model", "export lora", "export patch", "train")
ATTACKS = [(verb, signal_, number) for number in range(4) for verb in VERBS for signal_ in SIGNALS]


def printed_to(folder: Path) -> dict[int, Path]:
    """Where a command that runs in a folder prints to: beside the folder, for what is in it is compared."""
    return {1: folder.with_name(f"{folder.name}-out.txt"), 2: folder.with_name(f"{folder.name}-err.txt")}


def typed(ready: Any, arguments: tuple[str, ...], folder: Path) -> None:
    """Become that command, and tell when it begins; Python itself would answer an interrupt before that."""
    command = module.main

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ready.set()
        command()

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    module.main = begin
    _become(arguments, folder, {**os.environ, "OMP_NUM_THREADS": "1"}, printed_to(folder))


@pytest.fixture
def words(store: Path, model_folder: Path, tmp_path: Path) -> dict[str, list[str]]:
    """Each verb as it is typed, in a folder that holds a store, one edit of which does not hold."""
    opened = EditStore.open(store)
    first, second = opened.edits()
    with opened.writing():
        opened.add(EditRequest("The symbol of lead is", "Fe"), opened.delta(first.id), first.provenance)
        opened.undo(first.id)
    facts = '{"prompt": "Snow is", "target": "black"}\n{"prompt": "The opposite of up is", "target": "hot"}\n'
    (tmp_path / "facts.jsonl").write_text(facts)
    prepare_run(tmp_path, model_folder)
    model = str(model_folder)
    export = ["export", "out", "--model", model, "--format"]
    return {
        "undo": ["undo", opened.edits()[-1].id],
        "redo": ["redo", second.id],
        "edit": ["edit", model, *FACT, *QUICK],
        "edit --from": ["edit", model, "--from", "facts.jsonl", *QUICK],
        "repair": ["repair", "--model", model],
        "export model": [*export, "model"],
        "export lora": [*export, "lora"],
        "export patch": [*export, "patch"],
        "train": ["train", "c.yaml", "--set", "training.save_steps=1"],
    }


@pytest.mark.parametrize(("verb", "sent", "number"), some_in_ci(ATTACKS, every=28))
def test_signals(words: dict[str, list[str]], tmp_path: Path, verb: str, sent: signal.Signals, number: int) -> None:
    whole = Path(shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-whole"))
    began = time.monotonic()
    done = roselora(*words[verb], folder=whole)
    lasted = time.monotonic() - began
    assert done.code == 0, done.err
    before, after = state(tmp_path), state(whole)

    ready = FORKS.Event()
    process = FORKS.Process(target=typed, args=(ready, tuple(words[verb]), tmp_path))
    process.start()
    ready.wait()
    time.sleep(random.Random(f"{verb} {sent} {number}").random() * lasted * 1.5)
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):  # it was done before that
        os.kill(process.pid, sent)
    process.join()
    said = printed_to(tmp_path)[2].read_text()
    assert "Traceback" not in said, said

    left = state(tmp_path)
    assert between(before, left, after, verb), (before, left, after)
    if verb == "train" and left["out"] and not any(name.startswith("adapter/") for name in left["out"]):
        words[verb] = ["train", "out/config.yaml"] + (
            ["--resume"] if "--resume" in said or _can_resume(tmp_path) else []
        )
    again = roselora(*words[verb], folder=tmp_path)
    finished = again.code == 0 or any(word in again.err for word in ("already", "is not empty", "exists"))
    assert finished, again.err
    assert {*state(tmp_path)["facts"]} == {*after["facts"]}  # the first command may have been done too
    assert {*state(tmp_path)["out"]} >= {name for name in after["out"] if "checkpoint" not in name}
    opened = EditStore.open(tmp_path / "edits")
    assert all(problem.harmless for problem in opened.verify())
    with opened.writing():  # the lock is free
        opened.collect_orphans()
    assert roselora("verify", folder=tmp_path).code == 0


def _can_resume(folder: Path) -> bool:
    """Whether a checkpoint is whole; without one the same command starts again over the unfinished files."""
    return any((folder / "out").glob("checkpoints/checkpoint-*/whole.json"))


def state(folder: Path) -> dict[str, Any]:
    """What the store says is so, and the files of an output."""
    edits = EditStore.open(folder / "edits").edits()
    facts = sorted((edit.request.prompt, edit.request.target) for edit in edits if edit.active)
    out = {name: digest for name, digest in contents(folder).items() if name.partition("/")[0] == "out"}
    return {"facts": facts, "out": {name.partition("/")[2]: digest for name, digest in out.items()}}


def between(before: dict[str, Any], left: dict[str, Any], after: dict[str, Any], verb: str) -> bool:
    """As before or as after; of a file of facts some, and of a training its checkpoints, may be there."""
    if verb == "edit --from":
        new = [fact for fact in after["facts"] if fact not in before["facts"]]
        return {*before["facts"]} <= {*left["facts"]} <= {*before["facts"], *new}
    if verb == "train":
        made = {name for name in left["out"] if name.startswith("adapter/")}
        return made in (set(), {name for name in after["out"] if name.startswith("adapter/")})
    return left["facts"] in (before["facts"], after["facts"]) and {*left["out"]} in ({*before["out"]}, {*after["out"]})
