"""Promises 6 and 8 through real training: a killed edit leaves no edit, no lock, and a store that works."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from roselora.editing.editor import Editor
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.store.edit_store import EditStore
from roselora.models import load

TRAINING = """
    import os, signal, sys
    from roselora.editing.store import edit_store as module
    from roselora.editing.editor import Editor
    from roselora.editing.methods.rose.rose_settings import EditSettings
    from roselora.models import load

    folder, store, moment = sys.argv[1:]

    def die(*arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    settings = EditSettings(target_modules=("v_proj", "down_proj"), ramp=6, learning_rate=2e-2, keep_weight=0.1)
    editor = Editor(load(folder), settings, store)
    if moment == "after the file":
        module.insert_edit = die

    def on_step(step, loss):
        if step == 4 and moment == "training":
            die()

    editor.edit("The capital of France is", "Lyon", on_step=on_step)
"""


@pytest.mark.parametrize("moment", ["training", "after the file"])
def test_promises_6_and_8_a_kill_in_an_edit_leaves_no_edit_no_lock_and_a_store_that_works(
    world_model: Any, tiny_tokenizer: Any, tmp_path: Path, moment: str
) -> None:
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

    assert (tmp_path / "edits" / "lock.holder").exists(), "it was killed while it held the lock"
    store = EditStore.open(tmp_path / "edits")
    assert store.edits() == []
    assert [problem.harmless for problem in store.verify()] == ([] if moment == "training" else [True])
    with store.writing():
        store.collect_orphans()
    settings = EditSettings(
        target_modules=("v_proj", "down_proj"), warmup=2, ramp=6, learning_rate=2e-2, keep_weight=0.1
    )
    editor = Editor(load(tmp_path / "world"), settings, tmp_path / "edits")
    editor.edit("The capital of France is", "Lyon")
    assert editor.answers(["The capital of France is"]) == ["Lyon"]
    assert store.verify() == []
