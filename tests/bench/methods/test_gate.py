"""Gated neuron edits of one call: what does not hold is made anew, and all is undone."""

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods import gate as rose_neurons
from roselora.editing.methods.gate import layer_choice, training_texts
from roselora.editing.methods.gate.joint_edits import JointEdits
from roselora.editing.request import EditRequest
from tests.bench.methods.editing import Before, edit

REQUESTS = (
    EditRequest("The capital of France is", "Rome", "France"),
    EditRequest("The symbol of gold is", "Fe", "gold"),
    EditRequest("The capital of Spain is", "Paris", "Spain"),
)
TWO_BLOCKS = {"depth": 0.5, "lowest_depth": 0.5, "highest_depth": 1.0, "learning_rate": 0.3}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Which requests each pass makes; each MLP is full after one edit."""
    monkeypatch.setattr(layer_choice, "LEVEL", 0.01)
    monkeypatch.setattr(training_texts, "OPENINGS", ("",))  # of whose words this model knows none
    made: list[list[int]] = []
    real = JointEdits.make

    def make(edits: JointEdits, numbers: Sequence[int], *given: Any) -> None:
        made.append(list(numbers))
        real(edits, numbers, *given)

    monkeypatch.setattr(JointEdits, "make", make)
    return made


def test_what_does_not_hold_is_made_anew_in_neurons_of_its_own(
    passes: list[list[int]],
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = Before(word_model)
    monkeypatch.setattr(rose_neurons, "broken_requests", lambda *_: [1, 2])
    applied = edit("gate", word_model, word_tokenizer, *REQUESTS, **TWO_BLOCKS)
    assert passes == [[0, 1, 2], [1, 2]]
    taken = list(map(tuple, applied.memory["neurons"].tolist()))
    assert {block for block, _ in taken} == {1, 2}
    assert len(set(taken)) == len(taken)
    applied.undo()
    assert not before.changed(word_model)


def test_one_request_alone_is_made_once(
    passes: list[list[int]], word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    edit("gate", word_model, word_tokenizer, REQUESTS[0], **TWO_BLOCKS)
    assert passes == [[0]]


def test_a_later_call_leaves_the_neurons_of_earlier_ones(
    passes: list[list[int]], word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(word_model)
    first = edit("gate", word_model, word_tokenizer, REQUESTS[0], **TWO_BLOCKS)
    second = edit("gate", word_model, word_tokenizer, REQUESTS[2], history=(first,), **TWO_BLOCKS)
    held, all_held = ({tuple(row) for row in call.memory["neurons"].tolist()} for call in (first, second))
    assert held < all_held
    assert len(all_held) == 2 * len(held)
    second.undo()
    first.undo()
    assert not before.changed(word_model)
