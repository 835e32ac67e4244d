"""Many edits in one call: trained together, committed one by one, and each undone by itself."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roselora.editing.editor import Editor
from roselora.editing.many_edits import ManyEdits
from roselora.editing.methods.gate import layer_choice, training_texts
from roselora.editing.methods.gate.joint_edits import JointEdits
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.train_edit import Settings
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.errors import ConfigError, EditError, StoreError
from roselora.models import LoadedModel
from tests.editing.gate_edits import FACTORS, FRANCE, GOLD, SETTINGS, neurons_of
from tests.weights import same_bytes, weights


@pytest.mark.parametrize("settings", [SETTINGS, replace(FACTORS, keep_weight=3.0, max_steps=200)])
def test_each_of_many_edits_comes_out_by_itself(world: LoadedModel, settings: Settings) -> None:
    before = weights(world.model)
    editor = Editor(world, settings)
    seen: list[StoredEdit] = []
    requests = [EditRequest(*FRANCE, "France"), EditRequest(*GOLD, "gold")]
    made = editor.edit_many(requests, seen.append)
    assert tuple(seen) == made == editor.edits
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Rome.", "Fe."]
    editor.undo(made[0].id)
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Paris.", "Fe."]
    editor.undo(made[1].id)
    assert same_bytes(weights(world.model), before)


def test_an_edit_that_does_not_hold_as_trained_together_is_trained_by_itself(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ManyEdits, "_make_together", lambda self, numbers, *_: numbers)
    editor = Editor(world, SETTINGS)
    made = editor.edit_many([EditRequest(*FRANCE, "France"), EditRequest(*GOLD, "gold")])
    assert not neurons_of(made[0]) & neurons_of(made[1])
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Rome.", "Fe."]


def test_what_is_made_together_is_silent_at_what_is_stored_and_what_comes_later(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = Editor(world, SETTINGS)
    stored = EditRequest("The capital of Italy is ", "Lima.", "Italy")
    editor.edit(stored.prompt, stored.target, subject=stored.subject)
    together: list[list[EditRequest]] = []
    undisturbed: list[Sequence[EditRequest]] = []

    def note(
        model: Any, tokenizer: Any, requests: Sequence[EditRequest], settings: Any, previous: PreviousEdits
    ) -> Any:
        together.append(list(requests))
        undisturbed.append(previous.requests)
        return JointEdits(model, tokenizer, requests, settings, previous)

    monkeypatch.setattr("roselora.editing.many_edits.JointEdits", note)
    france, gold = EditRequest(*FRANCE, "France"), EditRequest(*GOLD, "gold")
    later = EditRequest(FRANCE[0], "Madrid.", "France")
    editor.edit_many([france, later, gold])
    assert together == [[france, gold]]
    assert undisturbed == [[stored, later]]


def test_edits_go_to_the_lower_mlp_first_and_come_back_in_their_requests_order(
    word_model: Any, word_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(training_texts, "OPENINGS", ())  # of whose words this model knows none
    monkeypatch.setattr(layer_choice, "LEVEL", 0.01)  # each MLP is full after one edit
    base = copy.deepcopy(word_model)
    before = weights(word_model)
    settings = replace(SETTINGS, depth=1.0, lowest_depth=0.0)
    editor = Editor(LoadedModel(word_model, word_tokenizer, "tiny"), settings)
    seen: list[StoredEdit] = []
    requests = [
        EditRequest("The capital of France is", "Rome", "France"),
        EditRequest("People in Norway speak", "French", "Norway"),
    ]
    made = editor.edit_many(requests, seen.append)
    assert [edit.provenance["neurons"][0]["block"] for edit in made] == [2, 1]
    assert [edit.request for edit in made] == requests
    assert seen == [made[1], made[0]]
    assert [answer["before"] for edit in made for answer in edit.provenance["answers"]] == ["Paris", "Norwegian"]
    assert not any(module._forward_pre_hooks for module in word_model.modules())
    again = Editor(LoadedModel(base, word_tokenizer, "tiny"), store=editor.store.folder)
    assert same_bytes(weights(again.model), weights(word_model))
    for edit in made:
        editor.undo(edit.id)
    assert same_bytes(weights(word_model), before)


def test_of_many_edits_that_contradict_each_other_the_last_wins_and_says_so(world: LoadedModel) -> None:
    before = weights(world.model)
    editor = Editor(world, SETTINGS)
    older, _, newer = editor.edit_many(
        [EditRequest(*FRANCE, "France"), EditRequest(*GOLD, "gold"), EditRequest(FRANCE[0], "Madrid.", "France")]
    )
    assert newer.provenance["supersedes"] == [older.id]
    assert "supersedes" not in older.provenance
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Madrid.", "Fe."]
    report = editor.check()
    assert [state.superseded_by for state in report.edits] == [newer.id, None, None]
    assert [state.holds for state in report.edits] == [False, True, True]
    assert report.clean
    editor.undo(newer.id)
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Rome.", "Fe."]
    for edit in editor.edits:
        editor.undo(edit.id)
    assert same_bytes(weights(world.model), before)


def test_one_of_many_that_cannot_be_learned_is_reported_and_the_others_are_made(world: LoadedModel) -> None:
    editor = Editor(world, replace(SETTINGS, max_steps=40))
    impossible = EditRequest(GOLD[0], "Fe." * 40, "gold")
    failed: list[EditRequest] = []
    made = editor.edit_many([impossible, EditRequest(*FRANCE, "France")], on_failure=lambda r, _: failed.append(r))
    assert failed == [impossible]
    assert [edit.request.prompt for edit in made] == [FRANCE[0]]
    with pytest.raises(EditError):
        editor.edit_many([impossible])


def test_of_more_facts_than_there_is_room_for_as_many_as_fit_are_made_and_the_rest_is_reported(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = Editor(world, SETTINGS)
    first = editor.edit(*FRANCE, subject="France")
    place, *others = editable_mlps(world.model, SETTINGS)
    assert not others
    held = set(range(place.count)) - set(range(8)) | neurons_of(first)
    previous_edits = editor._edited.previous_edits

    def nearly_full(beside: Sequence[EditRequest] = ()) -> PreviousEdits:
        known = previous_edits(beside)
        return replace(known, neurons={place.block: sorted(held | set(known.neurons[place.block]))})

    monkeypatch.setattr(editor._edited, "previous_edits", nearly_full)
    requests = [
        EditRequest(GOLD[0], "Fe.", "gold"),
        EditRequest("The opposite of up is ", "in " * 30, "up"),
        EditRequest("The capital of Italy is ", "Lima.", "Italy"),
        EditRequest("The capital of Germany is ", "Lima.", "Germany"),
    ]
    assert len(editor.that_fit(requests)) < len(requests)
    failed: list[tuple[str, str]] = []
    made = editor.edit_many(requests, on_failure=lambda request, error: failed.append((request.prompt, str(error))))
    assert made
    assert failed
    assert sorted([edit.request.prompt for edit in made] + [prompt for prompt, _ in failed]) == sorted(
        request.prompt for request in requests
    )
    assert all("neurons left" in why and "undo an edit that you no longer need" in why for _, why in failed)
    with pytest.raises(EditError, match="undo an edit that you no longer need"):
        editor.edit_many([requests[1]])


def test_undone_edits_give_their_neurons_to_an_edit_that_finds_no_others(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights(world.model)
    editor = Editor(world, SETTINGS)
    (place,) = editable_mlps(world.model, SETTINGS)
    france, italy = editor.edit_many([EditRequest(*FRANCE, "France"), EditRequest("The capital of Italy is ", "Lima.")])
    held_by = {edit.id: neurons_of(edit) for edit in (france, italy)}
    previous_edits = editor._edited.previous_edits

    def full_but_for_these(beside: Sequence[EditRequest] = ()) -> PreviousEdits:
        known = previous_edits(beside)
        others = set(range(place.count)) - set().union(*held_by.values())
        return replace(known, neurons={place.block: sorted(others | set(known.neurons.get(place.block, ())))})

    monkeypatch.setattr(editor._edited, "previous_edits", full_but_for_these)
    gold = EditRequest(*GOLD, "gold")
    assert editor.that_fit([gold]) == []
    editor.undo(france.id)
    editor.undo(italy.id)
    (new,) = editor.edit_many([gold])
    assert editor.answers([GOLD[0]]) == [GOLD[1]]
    (old, *_) = (edit_id for edit_id, neurons in held_by.items() if neurons & neurons_of(new))
    with_new = weights(world.model)
    with pytest.raises(StoreError, match=f"{old} cannot be redone, because edit {new.id}.* undo {new.id} first"):
        editor.redo(old)
    assert same_bytes(weights(world.model), with_new)
    editor.undo(new.id)
    editor.redo(old)
    with pytest.raises(StoreError, match=f"undo {old} first"):
        editor.redo(new.id)
    editor.undo(old)
    assert same_bytes(weights(world.model), before)


@pytest.mark.parametrize("wrong", ["abc", [("a", "b")], [None], None, EditRequest("a", "b")])
def test_edit_many_refuses_what_is_no_list_of_requests(world: LoadedModel, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="takes a list of EditRequest"):
        Editor(world, SETTINGS).edit_many(wrong)
