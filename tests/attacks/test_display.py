"""Hostile text through every verb: nothing that a terminal would obey, and the text as it stands."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore
from tests.attacks.attacking import require_harmless, require_told, roselora, some_in_ci
from tests.attacks.test_files import QUICK, prepare_run

OBEYED = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "one-byte CSI": "\x9b31m",
    "hyperlink": "\x1b]8;;http://x\x1b\\here",
    "right to left": "\u202egnp.exe\u2066",
    "backspaces": "a\x08\x08b\x7f",
    "carriage return": "first\rsecond",
    "null": "a\x00b",
    "vertical tab": "a\x0bb\x0cc",
}
SHOWN = {
    "markup": "[bold]x[/] [/red] [link=http://x]y",
    "emoji codes": "10:100:1 :apple: :smile:",
    "backslash": "C:\\dir\\",
    "brackets": "runs/[v2]/[e]",
    "braces": "{0} {x} %s %(x)s",
    "wide": "法国 é ﷽",
}
TEXTS = OBEYED | SHOWN


def spoken(text: str) -> str:
    """Without its folds: a table breaks what is longer than a column."""
    return "".join(text.split())


@pytest.fixture
def told(store: Path, tmp_path: Path) -> Any:
    """A store in which every text that a user or a model gives is this one; its id."""

    def make(text: str) -> str:
        opened = EditStore.open(store)
        provenance = {**opened.edits()[0].provenance}
        provenance["answers"] = _replaced(provenance["answers"], text)
        provenance["method"] = text
        request = EditRequest(f"p {text}", "t " + text.replace("\r", "").replace("\x0b", "").replace("\x0c", ""), text)
        with opened.writing():
            edit = opened.add(request, opened.delta(opened.edits()[0].id), provenance)
            opened.note(edit.id, f"n {text}")
        return edit.id

    return make


def _replaced(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return text
    if isinstance(value, dict):
        return {key: _replaced(each, text) for key, each in value.items()}
    return [_replaced(each, text) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", some_in_ci(TEXTS, every=9))
def test_texts_of_a_store(told: Any, model_folder: Path, tmp_path: Path, name: str) -> None:
    id = told(TEXTS[name])
    shown = {}
    for verb in ("log", "show", "note", "diff", "check", "verify", "undo", "redo"):
        more = [id] if verb in ("show", "diff", "undo", "redo") else [id, TEXTS[name]] if verb == "note" else []
        ended = roselora(verb, *more, folder=tmp_path)
        require_told(ended)
        shown[verb] = ended.out
    if name in SHOWN:
        assert spoken(SHOWN[name]) in spoken(shown["show"])
    listed = json.loads(roselora("log", "--json", folder=tmp_path).out)
    assert listed[-1]["prompt"] == f"p {TEXTS[name]}"


@pytest.mark.parametrize("name", some_in_ci([name for name in TEXTS if name != "null"], every=5))
@pytest.mark.parametrize("verb", ["edit", "edit --from", "train"])
def test_texts_that_are_given(model_folder: Path, tmp_path: Path, verb: str, name: str) -> None:
    text = TEXTS[name]
    if verb == "train":
        prepare_run(tmp_path, model_folder)
        for override in (f"{text}=1", f"training.seed={text}", f"data.train={text}", f"data.split={text}"):
            require_told(roselora("train", "c.yaml", "--set", override, "--dry-run", folder=tmp_path))
        return
    (tmp_path / "facts.jsonl").write_text(json.dumps({"prompt": f"p {text}", "target": "a", text: text}) + "\n")
    for more in (["--from", "facts.jsonl"], ["--prompt", text, "--target", f"a{text}", "--keep", text]):
        require_told(roselora("edit", str(model_folder), *more, *QUICK, folder=tmp_path))


@pytest.mark.parametrize("name", some_in_ci([name for name in TEXTS if name != "null"], every=13))
def test_names_of_files(store: Path, model_folder: Path, tmp_path: Path, name: str) -> None:
    text = TEXTS[name].replace("/", "_")
    prepare_run(tmp_path, model_folder)
    odd = Path(shutil.copytree(store, tmp_path / f"e{text}"))
    model = Path(shutil.copytree(model_folder, tmp_path / f"m{text}"))
    first = EditStore.open(odd).edits()[0].id
    for words in (
        ["log"],
        ["show", first],
        ["diff", first],
        ["undo", first],
        ["redo", first],
        ["verify", "--collect"],
        ["check", "--model", model.name],
        ["export", f"out{text}", "--model", model.name],
        ["export", f"out{text}", "--model", model.name],
        ["undo", text],
    ):
        ended = roselora(*words, "--store", odd.name, folder=tmp_path)
        require_told(ended)
        if words[0] == "export" and ended.code == 0 and name in SHOWN:
            assert spoken(f"out{text}") in spoken(ended.out)
    for words in (
        ["diff", model.name, str(model_folder)],
        ["diff", odd.name, "edits"],
        ["log", "--store", f"none{text}"],
        ["edit", f"none{text}", "--prompt", "a", "--target", "b"],
        ["train", f"none{text}.yaml"],
        ["train", "c.yaml", "--output", f"trained{text}"],
        ["train", "c.yaml", "--output", f"trained{text}"],
    ):
        require_told(roselora(*words, folder=tmp_path))
    for page in tmp_path.glob("trained*/**/README.md"):
        require_harmless(page.read_text("utf-8"))


@pytest.mark.parametrize("name", some_in_ci(TEXTS, every=7))
def test_names_of_a_base(store: Path, tmp_path: Path, name: str) -> None:
    opened = EditStore.open(store)
    other = EditStore.open(tmp_path / "other", BaseIdentity(TEXTS[name], TEXTS[name], opened.base.sha256), create=True)
    with other.writing():
        edit = other.add(EditRequest("a", "b"), opened.delta(opened.edits()[0].id), {})
    for words in (["log"], ["show", edit.id], ["check"], ["export", "out"], ["repair"], ["verify"]):
        require_told(roselora(*words, "--store", "other", folder=tmp_path))
