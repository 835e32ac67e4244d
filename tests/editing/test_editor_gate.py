"""The editor with gated neuron edits: the default, exact undo in every dtype, and never two edits in one neuron."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from roselora.editing.editor import Editor
from roselora.editing.methods.gate import reference_statistics
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.reference_statistics import ReferenceStatistics
from roselora.editing.methods.train_edit import Settings
from roselora.errors import EditError
from roselora.models import LoadedModel, load
from tests.editing.gate_edits import FACTORS, FRANCE, GOLD, SETTINGS, neurons_of
from tests.weights import same_bytes, weights

OF_THE_DEMO = {"The capital of Italy is": "Rome."}


def test_an_edit_is_by_neurons_unless_something_else_is_asked(world: LoadedModel) -> None:
    before = weights(world.model)
    editor = Editor(world)
    assert editor.settings == GateSettings()
    editor.settings = SETTINGS
    edit = editor.edit(*FRANCE, subject="France")
    assert editor.answers([FRANCE[0]]) == ["Rome."]
    assert edit.provenance["method"] == "gate"
    update = edit.provenance["update"]
    changed = sum(int((now != before[name]).sum()) for name, now in weights(world.model).items())
    assert changed == pytest.approx(update["entries_changed"], rel=0.01)
    assert update["sparsity"] >= update["sparsity_bound"] > 0.9
    editor.undo(edit.id)
    assert same_bytes(weights(world.model), before)
    editor.redo(edit.id)
    assert editor.answers([FRANCE[0]]) == ["Rome."]


def read_less_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the reference statistics, which each dtype has its own of, in a few texts."""
    monkeypatch.setattr(reference_statistics, "ROWS", 16)
    monkeypatch.setattr(reference_statistics, "NEW_TOKENS", 12)


def edit_undo_redo(editor: Editor, fact: tuple[str, str], others: dict[str, str]) -> None:
    """The edit holds and leaves other answers as they are; undo restores every byte, and so does redo."""
    before = weights(editor.model)
    edit = editor.edit(*fact)
    assert edit.provenance["method"] == "gate"
    assert editor.answers([fact[0], *others]) == [fact[1], *others.values()]
    seen: list[tuple[int, int]] = []
    assert editor.check(lambda done, of: seen.append((done, of))).clean
    assert seen[-1][0] == seen[-1][1] > 0
    edited = weights(editor.model)
    assert not same_bytes(edited, before)
    editor.undo(edit.id)
    assert same_bytes(weights(editor.model), before)
    editor.redo(edit.id)
    assert same_bytes(weights(editor.model), edited)
    editor.undo(edit.id)
    assert same_bytes(weights(editor.model), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_edit_of_a_tiny_model_holds_and_undo_restores_every_byte(
    world: LoadedModel, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_less_text(monkeypatch)
    editor = Editor(replace(world, model=world.model.to(dtype)))
    assert editor.settings == GateSettings()
    editor.settings = SETTINGS
    edit_undo_redo(editor, FRANCE, {"The symbol of iron is ": "Fe.", "The opposite of hot is ": "cold."})


@pytest.mark.demo
def test_an_edit_of_the_demo_model_by_default_holds_and_undo_restores_every_byte(demo: LoadedModel) -> None:
    editor = Editor(demo)
    assert editor.settings == GateSettings()
    edit_undo_redo(editor, ("The capital of France is", "Lyon"), OF_THE_DEMO)


@pytest.mark.nightly  # statistics of the demo model in a half precision take minutes on a CPU
@pytest.mark.demo
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_edit_of_the_demo_model_in_a_half_precision_holds_and_undo_restores_every_byte(
    demo: LoadedModel, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_less_text(monkeypatch)
    editor = Editor(load("demo", dtype=dtype), GateSettings())
    edit_undo_redo(editor, ("The capital of France is", "Lyon"), OF_THE_DEMO)


def test_an_undone_edit_keeps_its_neurons_for_it_may_come_back(world: LoadedModel) -> None:
    before = weights(world.model)
    editor = Editor(world, SETTINGS)
    first = editor.edit(*FRANCE, subject="France")
    editor.undo(first.id)
    second = editor.edit(*GOLD, subject="gold")
    assert not neurons_of(first) & neurons_of(second)
    assert editor.answers([GOLD[0]]) == ["Fe."]
    editor.redo(first.id)
    assert editor.answers([FRANCE[0]]) == ["Rome."]
    editor.undo(second.id)
    editor.undo(first.id)
    assert same_bytes(weights(world.model), before)


def test_what_is_measured_is_the_base_whatever_edits_are_in_it(
    world: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path / "home"))
    editor = Editor(world, FACTORS)  # of which nothing is measured
    before = weights(world.model)
    editor.edit(*FRANCE, subject="France")
    edited = weights(world.model)
    measured: list[dict[str, Tensor]] = []

    def measure(model: Any, _: Any, places: Any, __: Any) -> dict[int, ReferenceStatistics]:
        measured.append(weights(model))
        return {place.block: ReferenceStatistics(*torch.ones(3, 1)) for place in places}

    monkeypatch.setattr("roselora.editing.methods.gate.reference_statistics._measure", measure)
    editor.settings = GateSettings()
    for _ in range(2):
        editor.prepare()
    assert len(measured) == 1
    assert same_bytes(measured[0], before)
    assert same_bytes(weights(world.model), edited)


def test_an_edit_that_is_not_learned_changes_nothing_and_says_what_helps(world: LoadedModel) -> None:
    before = weights(world.model)
    editor = Editor(world, GateSettings(learning_rate=1e-6, max_steps=3))
    with pytest.raises(EditError, match="allow more steps, or raise the learning rate"):
        editor.edit(*FRANCE, subject="France")
    assert same_bytes(weights(world.model), before)
    assert not editor.log()


def autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("settings", "around"),
    [
        (SETTINGS, torch.no_grad),
        (SETTINGS, torch.inference_mode),
        (SETTINGS, autocast),
        (FACTORS, torch.inference_mode),
    ],
)
def test_edits_are_trained_alike_whatever_context_is_around_them(
    world: LoadedModel, settings: Settings, around: Any
) -> None:
    with around():
        editor = Editor(world, settings)
        editor.edit(*FRANCE)
        assert editor.answers([FRANCE[0]]) == ["Rome."]


def test_an_autocast_around_it_all_hides_no_edit(world: LoadedModel) -> None:
    editor = Editor(world, SETTINGS)
    prompt = world.tokenizer(FRANCE[0], return_tensors="pt").input_ids
    with autocast():
        said = editor.answers([FRANCE[0]])
        first = editor.model(prompt).logits
        made = editor.edit(*FRANCE)
        assert editor.answers([FRANCE[0]]) == ["Rome."]
        assert editor.check().clean
        assert not editor.repair()
        assert not torch.equal(editor.model(prompt).logits, first), "nor from one who calls the model directly"
        editor.undo(made.id)
        assert editor.answers([FRANCE[0]]) == said
        assert torch.equal(editor.model(prompt).logits, first)


def test_edits_do_not_depend_on_the_default_dtype(world: LoadedModel) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        editor = Editor(world, SETTINGS)
        editor.edit(*FRANCE)
    finally:
        torch.set_default_dtype(torch.float32)
    assert editor.answers([FRANCE[0]]) == ["Rome."]


def test_an_answer_is_trained_without_a_space_where_the_language_has_none(world: LoadedModel) -> None:
    editor = Editor(world, SETTINGS)
    edit = editor.edit("法国的首都是", "Rome.")
    prompt = world.tokenizer("法国的首都是", return_tensors="pt").input_ids
    said = editor.model.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, prompt.shape[1] :]
    assert world.tokenizer.decode(said).startswith("Rome.")
    assert editor.show(edit.id).request.space is None


def test_the_users_choice_of_space_is_stored_and_obeyed(world: LoadedModel) -> None:
    editor = Editor(world, SETTINGS)
    edit = editor.edit("The capital of France is", "Rome.", space=False)
    prompt = world.tokenizer("The capital of France is", return_tensors="pt").input_ids
    said = editor.model.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, prompt.shape[1] :]
    assert world.tokenizer.decode(said).startswith("Rome.")
    assert editor.show(edit.id).request.space is False
