"""What cannot be done to the weights or the store changes neither: damaged files, foreign writes, a full disk."""

import copy
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from roselora.delta import delta_file as io
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing.edited_model import EditedModel
from roselora.editing.editor import Editor
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.train_edit import settings_of
from roselora.editing.proposal import Proposal
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_store import EditStore
from roselora.editing.store.provenance import read_provenance
from roselora.errors import (
    EditError,
    FileFormatError,
    NonFiniteError,
    StoreError,
    UnsupportedError,
    WrongBaseError,
)
from roselora.files import sha256_tensor
from roselora.models import LoadedModel

NAME = "model.layers.0.mlp.down_proj.weight"
Editors = Callable[[], Editor]


def one_entry(model: nn.Module, value: float, column: int = 3) -> SparseDelta:
    """A delta that adds `value` to the entry at row 2 of the weight NAME."""
    weight = model.get_parameter(NAME)
    A, B = torch.zeros(1, weight.shape[1]), torch.zeros(weight.shape[0], 1)
    A[0, column], B[2, 0] = value, 1.0
    base = {"base_dtype": weight.dtype, "base_sha256": sha256_tensor(weight)}
    return SparseDelta((SparseFactors.from_factors(NAME, A, B, 1.0, **base),))


def raw(model: nn.Module) -> list[bytes]:
    return [tensor.contiguous().view(torch.uint8).numpy().tobytes() for tensor in model.state_dict().values()]


def what_is_kept(store: EditStore) -> Any:
    return store.edits(), store.history(), sorted(path.name for path in (store.folder / "deltas").iterdir())


def commit(editor: Editor, delta: SparseDelta, prompt: str = "The fact is") -> str:
    with editor.store.writing():
        return editor._edited.commit(Proposal(EditRequest(prompt, "so"), delta, {})).id


def delta_file(editor: Editor, edit_id: str) -> Path:
    return editor.store.folder / "deltas" / f"{editor.store.find(edit_id).delta_sha256}.safetensors"


@pytest.fixture
def base(tiny_model: Any) -> Any:
    model = tiny_model().half()
    with torch.no_grad():
        model.get_parameter(NAME)[2, 3] = 0.0
    return model


@pytest.fixture
def open_editor(base: Any, tiny_tokenizer: Any, tmp_path: Path) -> Editors:
    """Opens one store with a fresh copy of one fp16 model, each time."""
    return lambda: Editor(LoadedModel(copy.deepcopy(base), tiny_tokenizer, "tiny"), store=tmp_path / "edits")


@pytest.fixture
def editor(open_editor: Editors, base: Any) -> Editor:
    """With three edits, of different entries."""
    editor = open_editor()
    for number in (1, 2, 3):
        commit(editor, one_entry(base, float(number), column=number), f"Fact {number} is")
    return editor


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_promise_3_what_is_not_finite_never_becomes_a_delta(base: Any, bad: float) -> None:
    with pytest.raises(NonFiniteError, match=r"down_proj\.weight: A holds NaN or infinity"):
        one_entry(base, bad)


def test_promise_3_an_edit_that_overflows_the_weights_is_neither_applied_nor_stored(editor: Editor, base: Any) -> None:
    weights, kept = raw(editor.model), what_is_kept(editor.store)
    with pytest.raises(NonFiniteError, match=r"would not be finite in float16 at row 2, column 3"):
        commit(editor, one_entry(base, 1e6))
    assert raw(editor.model) == weights
    assert what_is_kept(editor.store) == kept


def test_promise_3_a_nan_written_into_a_stored_delta_is_refused_though_its_hashes_are_right(
    editor: Editor, base: Any
) -> None:
    forged = one_entry(base, 0.5)
    forged.weights[0].a_values[0, 0] = float("nan")
    with editor.store.writing():
        edit = editor.store.add(EditRequest("Forged", "so"), forged, {})
    with pytest.raises(FileFormatError, match="NaN or infinity"):
        editor.delta(edit.id)
    assert any("NaN or infinity" in problem.what and not problem.harmless for problem in editor.store.verify())


def test_promise_7_a_redo_that_would_overflow_changes_neither_weights_nor_store(editor: Editor, base: Any) -> None:
    large = commit(editor, one_entry(base, 40_000.0), "Large")
    editor.undo(large)
    commit(editor, one_entry(base, 40_001.0), "Larger")
    weights, kept = raw(editor.model), what_is_kept(editor.store)
    with pytest.raises(NonFiniteError):
        editor.redo(large)
    assert raw(editor.model) == weights
    assert what_is_kept(editor.store) == kept


def test_promise_2_a_redo_of_a_damaged_delta_is_refused_and_not_recorded(editor: Editor, open_editor: Editors) -> None:
    edit = editor.undo(editor.log()[1].id)
    path = delta_file(editor, edit.id)
    path.write_bytes(path.read_bytes()[:-1])
    weights, kept = raw(editor.model), what_is_kept(editor.store)
    with pytest.raises(FileFormatError, match="is damaged"):
        editor.redo(edit.id)
    with editor.store.writing(), pytest.raises(FileFormatError, match="is damaged"):
        editor.store.redo(edit.id)
    assert raw(editor.model) == weights
    assert what_is_kept(editor.store) == kept
    assert raw(open_editor().model) == weights


def test_promise_7_an_undo_that_the_weights_refuse_is_not_recorded(editor: Editor) -> None:
    kept = what_is_kept(editor.store)
    edit = editor.log()[1]
    with torch.no_grad():
        editor.model.get_parameter(NAME)[2, 2] += 1  # an entry of that edit, by someone else
    weights = raw(editor.model)
    with pytest.raises(EditError, match="was changed by something else"):
        editor.undo(edit.id)
    assert raw(editor.model) == weights
    assert what_is_kept(editor.store) == kept


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_promise_2_a_store_that_cannot_be_applied_leaves_the_model_as_it_was(
    editor: Editor, base: Any, tiny_tokenizer: Any, damage: str
) -> None:
    path = delta_file(editor, editor.log()[1].id)  # the second: the first one has been applied by then
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    before = raw(base)
    with pytest.raises(FileFormatError, match=path.name):
        Editor(LoadedModel(base, tiny_tokenizer, "tiny"), store=editor.store.folder)
    assert raw(base) == before


def test_promise_4_weights_that_are_not_those_an_edit_was_committed_with_are_refused_and_left_alone(
    editor: Editor, base: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = raw(base)
    monkeypatch.setattr(EditedModel, "_hashes", lambda self, delta: {NAME: "0" * 64})
    with pytest.raises(WrongBaseError, match=f"The weights with edit {editor.log()[2].id} are not those"):
        Editor(LoadedModel(base, tiny_tokenizer, "tiny"), store=editor.store.folder)
    assert raw(base) == before


def test_promise_4_an_older_store_which_lists_what_was_active_is_compared_too(
    editor: Editor, open_editor: Editors, base: Any
) -> None:
    state = {"after": [edit.id for edit in editor.edits], "weights": {NAME: "0" * 64}}
    with editor.store.writing():
        edit = editor.store.add(EditRequest("Older", "so"), one_entry(base, 1.0), {"state": state})
    with pytest.raises(WrongBaseError, match=f"The weights with edit {edit.id} are not those"):
        open_editor()


@pytest.mark.parametrize("state", [None, "x", [], {}, {"after": []}, {"weights": {}}], ids=str)
def test_an_edit_that_another_program_stored_with_provenance_of_its_own_can_be_opened(
    open_editor: Editors, base: Any, state: object
) -> None:
    store = open_editor().store
    with store.writing():
        store.add(EditRequest("Theirs", "so"), one_entry(base, 1.0), {"state": state})
    assert open_editor().model.get_parameter(NAME)[2, 3] == 1.0


STRANGE: list[Any] = [None, True, 7, -1.5, "x", [], {}, [[]], [{}], {"a": {"b": []}}, ["x", 1], {"block": "1"}]
PARTS = (
    "method",
    "answers",
    "update",
    "training",
    "neurons",
    "settings",
    "versions",
    "state",
    "supersedes",
    "repairs",
    "left_out",
)


@pytest.mark.parametrize("strange", STRANGE, ids=str)
def test_whatever_another_program_put_into_the_provenance_the_store_can_be_worked_with(
    open_editor: Editors, base: Any, strange: Any
) -> None:
    store = open_editor().store
    with store.writing():
        for part in PARTS:
            store.add(EditRequest(f"Their {part}", "so"), one_entry(base, 1.0), {part: strange})
        store.add(EditRequest("All", "so"), one_entry(base, 1.0), dict.fromkeys(PARTS, strange))
    editor = open_editor()
    assert len(editor.check().edits) == len(PARTS) + 1
    assert editor._edited.previous_edits().neurons == {}
    assert [settings_of(edit.provenance) for edit in editor.log()] == [None] * (len(PARTS) + 1)


@pytest.mark.parametrize(("stored", "today"), [("roselora-neurons", "gate"), ("roselora", "rose")])
def test_a_store_of_an_earlier_version_opens_and_its_methods_have_todays_names(
    open_editor: Editors, base: Any, stored: str, today: str
) -> None:
    store = open_editor().store
    neurons = {"block": 1, "indices": [3, 4]}
    with store.writing():
        store.add(EditRequest("An old", "one"), one_entry(base, 1.0), {"method": stored, "neurons": neurons})
    editor = open_editor()
    (edit,) = editor.edits
    assert read_provenance(edit.provenance).method == today
    assert editor._edited.previous_edits().neurons == {1: [3, 4]}
    editor.undo(edit.id)


def test_promise_3_a_store_whose_edits_overflow_names_the_command_that_helps(
    open_editor: Editors, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = open_editor()
    ids = [commit(editor, one_entry(base, value)) for value in (60_000.0, -60_000.0, 60_000.0)]
    with pytest.raises(NonFiniteError):
        editor.undo(ids[1])
    with monkeypatch.context() as patch, editor.store.writing():
        patch.setattr("roselora.editing.store.edit_store.require_finite", lambda *_: None)  # as an older version did
        editor.store.undo(ids[1])
    with pytest.raises(NonFiniteError, match=f"taken back with `roselora redo {ids[1]}`"):
        open_editor()
    with editor.store.writing():
        editor.store.redo(ids[1])
    assert len(open_editor().edits) == 3


def test_promise_7_edits_whose_sum_is_finite_can_be_opened_though_some_of_them_alone_are_not(
    open_editor: Editors, base: Any
) -> None:
    editor = open_editor()
    ids = [commit(editor, one_entry(base, value)) for value in (60_000.0, -60_000.0, 60_000.0, -60_000.0)]
    editor.undo(ids[1])
    assert raw(open_editor().model) == raw(editor.model)
    other = open_editor()
    other.undo(ids[0])
    other.redo(ids[1])
    editor.check()
    assert raw(editor.model) == raw(other.model)


def test_promise_8_what_check_reports_is_what_is_in_the_weights_whatever_is_committed_meanwhile(
    editor: Editor, open_editor: Editors, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = [edit.id for edit in editor.edits]
    other = open_editor()
    up_to_date = EditedModel.bring_up_to_date

    def and_then_another_process_undoes_one(self: EditedModel) -> Any:
        found = up_to_date(self)
        if self is editor._edited:
            with other.store.writing():
                other.store.undo(inside[1])
        return found

    monkeypatch.setattr(EditedModel, "bring_up_to_date", and_then_another_process_undoes_one)
    assert [state.edit_id for state in editor.check().edits] == inside


def test_promises_6_and_8_a_repair_that_cannot_be_stored_leaves_the_old_edit_as_it_was(
    editor: Editor, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = editor.log()[1]
    weights, kept = raw(editor.model), what_is_kept(editor.store)
    monkeypatch.setattr("roselora.editing.editor.Editor._prepare", lambda self, settings: None)
    proposal = Proposal(old.request, one_entry(base, 9.0), {})
    monkeypatch.setattr("roselora.editing.edit_repair.propose", lambda *given: proposal)
    monkeypatch.setattr("roselora.editing.edit_repair.broken_requests", lambda _, __, asked: [asked.index(old.request)])

    def stopped(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("roselora.editing.store.edit_store.insert_edit", stopped)
        with pytest.raises(KeyboardInterrupt):
            editor.repair()
    assert raw(editor.model) == weights
    assert what_is_kept(editor.store)[:2] == kept[:2]
    assert len(editor.repair()) == 1
    assert [(edit.request, edit.active) for edit in editor.log()][1::2] == [(old.request, False), (old.request, True)]


def test_one_of_many_that_overflows_the_dtype_is_reported_and_the_others_are_made(
    editor: Editor, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor.settings = EditSettings(max_steps=12)  # what is trained is not looked at
    requests = [EditRequest("Far", "so"), EditRequest("Near", "so")]

    def proposal(edited: EditedModel, request: EditRequest, *rest: Any) -> Proposal:
        return Proposal(request, one_entry(base, 1e6 if request.prompt == "Far" else 1.0), {})

    monkeypatch.setattr("roselora.editing.many_edits.propose", proposal)
    failed: list[str] = []
    made = editor.edit_many(requests, on_failure=lambda request, error: failed.append(f"{request.prompt}: {error}"))
    assert [edit.request.prompt for edit in made] == ["Near"]
    assert len(failed) == 1
    assert failed[0].startswith("Far: model.layers.0.mlp.down_proj.weight would not be finite")
    with pytest.raises(NonFiniteError):
        editor.edit_many(requests)


@pytest.mark.parametrize("change", ["edit", "undo", "redo"])
@pytest.mark.parametrize("failing", ["disk", "database"])
def test_promise_5_a_change_that_cannot_be_stored_is_not_in_the_weights(
    editor: Editor, base: Any, monkeypatch: pytest.MonkeyPatch, change: str, failing: str
) -> None:
    first, second, _ = editor.log()
    editor.undo(second.id)
    weights, kept = raw(editor.model), what_is_kept(editor.store)
    changes: dict[str, Callable[[], object]] = {
        "edit": lambda: commit(editor, one_entry(base, 1.0)),
        "undo": lambda: editor.undo(first.id),
        "redo": lambda: editor.redo(second.id),
    }

    def full(*arguments: Any, **options: Any) -> None:
        if failing == "disk":
            raise OSError(28, os.strerror(28))
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("roselora.editing.store.edit_store.insert_edit", full)
        patch.setattr("roselora.editing.store.edit_store.append_event", full)
        with pytest.raises(StoreError):
            changes[change]()
    assert raw(editor.model) == weights
    assert what_is_kept(editor.store)[:2] == kept[:2]
    assert all(problem.harmless for problem in editor.store.verify())
    changes[change]()
    assert raw(editor.model) != weights


def test_a_delta_in_the_store_is_the_one_that_was_applied(editor: Editor, base: Any) -> None:
    overlay = Overlay(base)
    for edit in editor.log():
        overlay.apply(edit.id, io.load(delta_file(editor, edit.id)))
    assert raw(base) == raw(editor.model)


def test_a_model_that_is_spread_over_devices_is_refused_and_no_store_is_made(
    base: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    base.model.layers[1].to("meta")  # where `device_map` leaves the weights of a block that it keeps on the disk
    with pytest.raises(UnsupportedError, match="on cpu, meta: edits need them on one device"):
        Editor(LoadedModel(base, tiny_tokenizer, "tiny"), store=tmp_path / "edits")
    assert not (tmp_path / "edits").exists()
