"""A fact and its consequences are one edit: made, undone and checked together."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roselora.editing import propose as propose_module
from roselora.editing.editor import Editor
from roselora.editing.methods.train_edit import Settings
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.models import LoadedModel
from tests.editing.gate_edits import FACTORS, FRANCE, GOLD, SETTINGS
from tests.weights import same_bytes, weights

ABOUT_GOLD = EditRequest(*GOLD, "gold")
GROUP = EditRequest(*FRANCE, "France", consequences=(ABOUT_GOLD,))
BY_FACTORS = replace(FACTORS, keep_weight=3.0, max_steps=200)


@pytest.mark.parametrize("settings", [SETTINGS, BY_FACTORS])
def test_a_group_is_one_edit(world: LoadedModel, settings: Settings, tmp_path: Path) -> None:
    before = weights(world.model)
    editor = Editor(world, settings, tmp_path / "store")
    edit = editor.edit(*FRANCE, subject="France", consequences=[ABOUT_GOLD])
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Rome.", "Fe."]
    assert editor.edits == (edit,)
    assert edit.request == GROUP
    rows = edit.provenance["answers"]
    assert [(row["kind"], row["target"], row["after"]) for row in rows if row["form"] == "bare"] == [
        ("prompt", "Rome.", "Rome."),
        ("consequence", "Fe.", "Fe."),
    ]
    report = editor.check()
    assert report.clean
    assert [answer.target for answer in report.edits[0].answers if answer.form == "bare"] == ["Rome.", "Fe."]
    edited = weights(world.model)
    editor.undo(edit.id)
    assert same_bytes(weights(world.model), before)
    editor.redo(edit.id)
    assert same_bytes(weights(world.model), edited)


def test_a_group_leaves_the_neurons_of_others_alone_and_they_its_own(world: LoadedModel) -> None:
    editor = Editor(world, SETTINGS)
    first = editor.edit("The capital of Italy is ", "Lima.", subject="Italy")
    group = editor.edit(*FRANCE, subject="France", consequences=[ABOUT_GOLD])
    last = editor.edit("The symbol of iron is ", "Pb.", subject="iron")
    taken = [
        (each["block"], index)
        for edit in (first, group, last)
        for each in edit.provenance["neurons"]
        for index in each["indices"]
    ]
    assert len(group.provenance["neurons"]) == 2
    assert len(set(taken)) == len(taken)
    assert editor.check().clean


def failing_at(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """No fact with this target can be learned."""
    train = propose_module.train_edit

    def fails(*args: Any, **kwargs: Any) -> Any:
        if args[3].target == target:
            raise EditError("This was not learned.")
        return train(*args, **kwargs)

    monkeypatch.setattr(propose_module, "train_edit", fails)


def test_a_consequence_that_is_not_learned_is_left_out_and_named(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_at(monkeypatch, "Fe.")
    editor = Editor(world, SETTINGS)
    edit = editor.edit(*FRANCE, subject="France", consequences=[ABOUT_GOLD])
    assert edit.request.consequences == ()
    assert edit.provenance["left_out"] == [{"prompt": GOLD[0], "target": "Fe.", "reason": "This was not learned."}]
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Rome.", "Au."]


def test_if_the_fact_itself_is_not_learned_nothing_is_changed(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_at(monkeypatch, "Rome.")
    before, editor = weights(world.model), Editor(world, SETTINGS)
    with pytest.raises(EditError, match="not learned"):
        editor.edit(*FRANCE, subject="France", consequences=[ABOUT_GOLD])
    assert editor.log() == ()
    assert same_bytes(weights(world.model), before)


@pytest.mark.parametrize("lost", ["Fe.", "Rome."])
def test_facts_that_hold_alone_and_not_together_are_told_apart(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    from roselora.editing import propose_together

    answers_to = propose_together.answers_to

    def disturbed(model: Any, tokenizer: Any, requests: Sequence[EditRequest], *, keep: bool) -> Any:
        found = answers_to(model, tokenizer, requests, keep=keep)
        together = bool(requests[0].consequences)
        return [[replace(each, text="?") if together and each.target == lost else each for each in found[0]]]

    monkeypatch.setattr(propose_together, "answers_to", disturbed)
    editor = Editor(world, SETTINGS)
    if lost == "Rome.":
        with pytest.raises(EditError, match="leave some of them out"):
            editor.propose(*FRANCE, subject="France", consequences=[ABOUT_GOLD])
        return
    proposal = editor.propose(*FRANCE, subject="France", consequences=[ABOUT_GOLD])
    assert proposal.request.consequences == ()
    assert [each["prompt"] for each in proposal.provenance["left_out"]] == [GOLD[0]]


def test_groups_and_single_facts_are_made_in_one_call_and_not_twice(world: LoadedModel) -> None:
    from roselora.editing.contradictions import still_to_edit

    editor = Editor(world, SETTINGS)
    single = EditRequest("The capital of Italy is ", "Lima.", "Italy")
    assert editor.that_fit([GROUP, single]) == [0, 1]
    made = editor.edit_many([GROUP, single])
    assert [edit.request for edit in made] == [GROUP, single]
    assert editor.check().clean
    assert still_to_edit([GROUP, single, ABOUT_GOLD], editor.edits) == []


def test_a_group_whose_consequence_a_later_edit_overrules_still_holds(world: LoadedModel) -> None:
    editor = Editor(world, SETTINGS)
    group = editor.edit(*FRANCE, subject="France", consequences=[ABOUT_GOLD])
    later = editor.edit(GOLD[0], "Pb.", subject="gold")
    assert "supersedes" not in later.provenance
    report = editor.check()
    assert report.clean
    assert [state.superseded_by for state in report.edits] == [None, None]
    assert all(answer.kind != "consequence" for answer in report.edits[0].answers)
    assert editor.repair() == ()
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Rome.", "Pb."]
    editor.undo(group.id)
    assert editor.answers([FRANCE[0]]) == ["Paris."]


def test_what_follows_is_proposed_by_the_editor_if_asked(world: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = Editor(world, SETTINGS)
    monkeypatch.setattr(editor, "consequences", lambda request: (ABOUT_GOLD,))
    assert editor.propose(*FRANCE, subject="France", consequences=True).request == GROUP


def test_a_group_is_read_back_from_the_store_as_it_was(world: LoadedModel, tmp_path: Path) -> None:
    edit = Editor(world, SETTINGS, tmp_path / "store").edit(*FRANCE, subject="France", consequences=[ABOUT_GOLD])
    from roselora.editing.store.edit_store import EditStore

    store = EditStore.open(tmp_path / "store")
    assert store.find(edit.id) == edit
    assert not [problem for problem in store.verify() if not problem.harmless]
    assert json.loads(json.dumps(edit.provenance)) == edit.provenance
