"""The editor with edits by neurons: the default, undone exactly, and never two edits in one neuron."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from roselora.editing import neuron_rows
from roselora.editing.editor import Editor
from roselora.editing.neuron_settings import NeuronSettings
from roselora.editing.ordinary import OrdinaryText
from roselora.editing.records import StoredEdit
from roselora.editing.request import EditRequest
from roselora.editing.settings import EditSettings
from roselora.editing.trained import Settings, default_settings
from roselora.errors import ConfigError, EditError
from roselora.models import LoadedModel
from tests.models.kinds import model as small_model
from tests.weights import same_bytes, weights

FRANCE = ("The capital of France is ", "Rome.")
SETTINGS = NeuronSettings(learning_rate=0.3)  # what a tiny model needs
GOLD = ("The symbol of gold is ", "Fe.")


@pytest.fixture
def world(world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoadedModel:
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(neuron_rows, "OPENINGS", ("",))  # of whose words this model knows none
    return LoadedModel(world_model, tiny_tokenizer, "tiny")


def neurons_of(edit: Any) -> set[int]:
    return set(edit.provenance["neurons"]["indices"])


def test_an_edit_is_by_neurons_unless_something_else_is_asked(world: LoadedModel) -> None:
    before = weights(world.model)
    editor = Editor(world)
    assert editor.settings == NeuronSettings()
    editor.settings = SETTINGS
    edit = editor.edit(*FRANCE, subject="France")
    assert editor.answers([FRANCE[0]]) == ["Rome."]
    assert edit.provenance["method"] == "roselora-neurons"
    update = edit.provenance["update"]
    changed = sum(int((now != before[name]).sum()) for name, now in weights(world.model).items())
    assert changed == pytest.approx(update["entries_changed"], rel=0.01)
    assert update["sparsity"] >= update["sparsity_bound"] > 0.9
    editor.undo(edit.id)
    assert same_bytes(weights(world.model), before)
    editor.redo(edit.id)
    assert editor.answers([FRANCE[0]]) == ["Rome."]


def test_an_undone_edit_keeps_its_neurons_for_it_may_come_back(world: LoadedModel) -> None:
    before = weights(world.model)
    editor = Editor(world, SETTINGS)
    first = editor.edit(*FRANCE, subject="France")
    editor.undo(first.id)
    second = editor.edit(*GOLD, subject="gold")
    assert not neurons_of(first) & neurons_of(second)
    editor.redo(first.id)
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Rome.", "Fe."]
    editor.undo(second.id)
    editor.undo(first.id)
    assert same_bytes(weights(world.model), before)


def test_what_is_measured_is_the_base_whatever_edits_are_in_it(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = Editor(world, EditSettings(warmup=2, ramp=6, learning_rate=2e-2, density=0.25, keep_weight=0.1))
    before = weights(world.model)
    editor.edit(*FRANCE, subject="France")
    edited = weights(world.model)
    measured: list[dict[str, Tensor]] = []

    def measure(model: Any, _: Any, places: Any, __: Any) -> dict[int, OrdinaryText]:
        measured.append(weights(model))
        return {place.block: OrdinaryText(*torch.ones(3, 1)) for place in places}

    monkeypatch.setattr("roselora.editing.ordinary._measure", measure)
    editor.settings = NeuronSettings()
    for _ in range(2):
        editor.prepare()
    assert len(measured) == 1
    assert same_bytes(measured[0], before)
    assert same_bytes(weights(world.model), edited)


def test_an_edit_that_is_not_learned_changes_nothing_and_says_what_helps(world: LoadedModel) -> None:
    before = weights(world.model)
    editor = Editor(world, NeuronSettings(learning_rate=1e-6, max_steps=3))
    with pytest.raises(EditError, match="allow more steps, or raise the learning rate"):
        editor.edit(*FRANCE, subject="France")
    assert same_bytes(weights(world.model), before)
    assert not editor.log()


def test_a_model_without_such_neurons_is_edited_by_factors() -> None:
    assert default_settings(small_model("gpt2")) == NeuronSettings()
    model = small_model("llama")
    model.config.hidden_act = "tanh"
    assert default_settings(model) == EditSettings()


@pytest.mark.parametrize(
    "settings", [SETTINGS, EditSettings(warmup=2, ramp=6, learning_rate=2e-2, density=0.25, keep_weight=1.0)]
)
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


def test_an_edit_that_does_not_hold_as_trained_side_by_side_is_trained_by_itself(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roselora.editing.editor.propose_side_by_side", lambda *given: iter([None] * len(given[3])))
    editor = Editor(world, SETTINGS)
    made = editor.edit_many([EditRequest(*FRANCE, "France"), EditRequest(*GOLD, "gold")])
    assert not neurons_of(made[0]) & neurons_of(made[1])
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Rome.", "Fe."]


def test_many_edits_with_one_prompt_twice_are_refused(world: LoadedModel) -> None:
    editor = Editor(world, SETTINGS)
    with pytest.raises(ConfigError, match="give each prompt once"):
        editor.edit_many([EditRequest(*FRANCE), EditRequest(FRANCE[0], "Lyon.")])
    assert not editor.log()
