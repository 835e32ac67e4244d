"""Edits of neurons of one call are those of the editor's edit_many and repair, and all are undone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods import neuron_edits
from roselora.bench.methods.edit_method import Applied
from roselora.bench.methods.editing_methods import METHODS
from roselora.editing import edit_repair
from roselora.editing.editor import Editor
from roselora.editing.methods.gate import layer_choice
from roselora.editing.methods.gate.joint_edits import JointEdits
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.edit_store import EditStore
from roselora.errors import EditError
from roselora.models import LoadedModel
from roselora.models.generation import greedy_answers
from tests.bench.methods.editing import TINY, Before, edit

REQUESTS = (
    EditRequest("The capital of France is", "Rome", "France"),
    EditRequest("The capital of Germany is", "Oslo", "Germany"),
    EditRequest("The capital of Spain is", "Paris", "Spain"),
)
TWO_BLOCKS = {"depth": 1.0, "lowest_depth": 0.5, "learning_rate": 0.3}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[EditRequest]]:
    """The requests of each pass; each MLP is full after one edit."""
    monkeypatch.setattr(layer_choice, "LEVEL", 0.01)
    made: list[list[EditRequest]] = []
    real = JointEdits.make

    def make(edits: JointEdits, *given: Any) -> None:
        made.append(list(edits._requests))
        real(edits, *given)

    monkeypatch.setattr(JointEdits, "make", make)
    return made


def test_what_does_not_hold_is_made_anew_in_neurons_of_its_own(
    passes: list[list[EditRequest]],
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = Before(word_model)
    monkeypatch.setattr(edit_repair, "broken_requests", lambda *_: [1, 2])
    applied = edit("gate", word_model, word_tokenizer, *REQUESTS, **TWO_BLOCKS)
    assert passes == [list(REQUESTS), [REQUESTS[0]], [REQUESTS[2]]], "in the order in which they were committed"
    taken = list(map(tuple, applied.memory["neurons"].tolist()))
    assert {block for block, _ in taken} == {1, 2}
    assert len(set(taken)) == len(taken)
    assert applied.entries == sum(before.changed(word_model).values())
    applied.undo()
    assert not before.changed(word_model)


@pytest.mark.parametrize("name", ["gate", "rose"])
def test_the_weights_are_those_that_the_editor_makes_of_the_same_requests(
    name: str,
    passes: list[list[EditRequest]],
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edit_repair, "broken_requests", lambda *_: [0])
    applied = edit(name, word_model, word_tokenizer, *REQUESTS, **TWO_BLOCKS)
    by_method = Before(word_model)
    applied.undo()
    settings = replace(METHODS[name].config, **TINY[name] | TWO_BLOCKS)
    editor = Editor(LoadedModel(word_model, word_tokenizer, "words"), settings, tmp_path / "store")
    editor.edit_many(REQUESTS)
    editor.repair()
    assert not by_method.changed(word_model)


def test_one_request_alone_is_made_once(
    passes: list[list[EditRequest]], word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    edit("gate", word_model, word_tokenizer, REQUESTS[0], **TWO_BLOCKS)
    assert passes == [[REQUESTS[0]]]


def test_a_request_that_the_editor_refuses_leaves_no_edit_and_the_others_are_made(
    passes: list[list[EditRequest]], word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(word_model)
    unknown = EditRequest("The capital of Italy is", "Atlantis", "Italy")  # a word that the tokenizer does not know
    with pytest.raises(EditError, match="Atlantis"):
        edit("gate", word_model, word_tokenizer, unknown, **TWO_BLOCKS)
    assert not before.changed(word_model)
    told: list[tuple[int, int]] = []
    both = edit(
        "gate", word_model, word_tokenizer, unknown, REQUESTS[0], on_progress=lambda *at: told.append(at), **TWO_BLOCKS
    )
    assert told == [(1, 2), (2, 2)]
    by_both = Before(word_model)
    both.undo()
    edit("gate", word_model, word_tokenizer, REQUESTS[0], **TWO_BLOCKS)
    assert not by_both.changed(word_model)


def test_a_target_that_is_not_reached_is_an_error_and_changes_nothing(
    passes: list[list[EditRequest]], word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(word_model)
    with pytest.raises(EditError, match="did not learn"):
        edit("gate", word_model, word_tokenizer, REQUESTS[0], **TWO_BLOCKS | {"learning_rate": 1e-9})
    assert not before.changed(word_model)


@pytest.mark.parametrize("name", ["gate", "rose"])
def test_a_later_call_leaves_the_neurons_of_earlier_ones(
    name: str,
    passes: list[list[EditRequest]],
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
) -> None:
    before = Before(word_model)
    first = edit(name, word_model, word_tokenizer, REQUESTS[0], **TWO_BLOCKS)
    second = edit(name, word_model, word_tokenizer, REQUESTS[2], history=(first,), **TWO_BLOCKS)
    held, all_held = ({tuple(row) for row in call.memory["neurons"].tolist()} for call in (first, second))
    assert held < all_held
    assert len(all_held) == 2 * len(held)
    second.undo()
    first.undo()
    assert not before.changed(word_model)


@pytest.mark.parametrize("name", ["gate", "rose"])
def test_a_call_that_is_stopped_goes_on_behind_its_last_edit(
    name: str,
    passes: list[list[EditRequest]],
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(edit_repair, "broken_requests", lambda *_: [0])
    before = Before(word_model)

    def stopped(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edit(name, word_model, word_tokenizer, *REQUESTS, on_progress=stopped, folder=tmp_path / "edits", **TWO_BLOCKS)
    assert not before.changed(word_model)
    left = next(request for request in REQUESTS if request.prompt not in prompts_in(tmp_path / "edits"))
    del passes[:]
    told: list[tuple[int, int]] = []
    applied = edit(
        name,
        word_model,
        word_tokenizer,
        *REQUESTS,
        on_progress=lambda *at: told.append(at),
        folder=tmp_path / "edits",
        **TWO_BLOCKS,
    )
    assert passes[0] == [left]
    assert told == [(3, 3)]
    assert applied.requests == REQUESTS
    assert applied.earlier_seconds > 0
    assert applied.entries == sum(before.changed(word_model).values())
    assert greedy_answers(word_model, word_tokenizer, [left.prompt], max_new_tokens=4) == [left.target]
    applied.undo()
    assert not before.changed(word_model)
    assert len(prompts_in(tmp_path / "edits")) == 3, "and a replaced edit is undone in the store too"


def test_a_call_that_is_stopped_again_before_its_first_new_edit_changes_nothing(
    passes: list[list[EditRequest]],
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    before = Before(word_model)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    def start(**more: Any) -> Applied:
        return edit("gate", word_model, word_tokenizer, *REQUESTS, folder=tmp_path / "edits", **TWO_BLOCKS, **more)

    with pytest.raises(KeyboardInterrupt):
        start(on_progress=stopped)
    for name in ("require_feasible", "_not_made"):
        with monkeypatch.context() as patched:
            patched.setattr(neuron_edits, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                start()
        assert not before.changed(word_model)
    applied = start()
    assert len(prompts_in(tmp_path / "edits")) == 3
    applied.undo()
    assert not before.changed(word_model)


def test_what_is_left_of_requests_is_told_by_what_was_made_of_each() -> None:
    first, second = EditRequest("p", "x"), EditRequest("p", "y")

    def stored(number: int, request: EditRequest, **provenance: Any) -> StoredEdit:
        return StoredEdit(number, str(number), request, "", provenance, "", True)

    both = [stored(1, first), stored(2, second)]
    assert neuron_edits._not_made([first, second], both) == []
    assert neuron_edits._not_made([first, second, first], both) == [first]
    assert neuron_edits._not_made([first, first], [stored(1, first), stored(2, first, repairs="1")]) == [first]


def prompts_in(folder: Path) -> list[str]:
    return [edit.request.prompt for edit in EditStore.open(folder).active()]
