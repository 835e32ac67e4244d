"""Edits by neurons of one call: MLP by MLP, and silent where each other is said."""

from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.baselines import rose_neurons
from roselora.editing import neuron_places, neuron_rows
from roselora.editing.request import EditRequest
from roselora.models.neurons import matrix, neurons
from tests.baselines.editing import Before, edit

REQUESTS = (
    EditRequest("The capital of France is", "Rome", "France"),
    EditRequest("The symbol of gold is", "Fe", "gold"),
    EditRequest("The capital of Spain is", "Paris", "Spain"),
)
TWO_BLOCKS = {"depth": 0.5, "lowest_depth": 0.5, "highest_depth": 1.0, "learning_rate": 0.3}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What is read and made, in which block, of how many requests; each MLP is full after one edit."""
    monkeypatch.setattr(neuron_places, "LEVEL", 0.01)
    monkeypatch.setattr(neuron_rows, "OPENINGS", ("",))  # of whose words this model knows none
    made: list[tuple[str, int, int]] = []

    def noted(name: str, requests: int, place: int) -> None:
        real = getattr(rose_neurons, name)

        def call(*arguments: Any, **named: Any) -> Any:
            made.append((name, arguments[place].block, len(arguments[requests])))
            return real(*arguments, **named)

        monkeypatch.setattr(rose_neurons, name, call)

    noted("read_held", 2, 3)
    noted("edit_neurons", 2, 4)
    return made


def test_the_lower_mlp_is_edited_first_and_the_higher_one_reads_what_that_made(
    calls: list[tuple[str, int, int]],
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rose_neurons, "unheld", lambda *_: [])
    edit("rose-neurons", word_model, word_tokenizer, *REQUESTS, **TWO_BLOCKS)
    assert calls == [("read_held", 1, 3), ("edit_neurons", 1, 2), ("read_held", 2, 3), ("edit_neurons", 2, 1)]


def test_what_the_higher_mlp_will_lose_is_silent_until_that_is_edited(
    calls: list[tuple[str, int, int]],
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes = matrix(word_model.get_submodule(neurons(word_model, 2).writer))
    before = writes.clone()
    seen: list[tuple[int, int, int]] = []
    real = rose_neurons.edit_neurons

    def looking(*arguments: Any, **named: Any) -> Any:
        silent, changed = (writes == 0).all(0), (writes != before).any(0)
        seen.append((arguments[4].block, int(silent.sum()), int(changed.sum())))
        return real(*arguments, **named)

    monkeypatch.setattr(rose_neurons, "edit_neurons", looking)
    monkeypatch.setattr(rose_neurons, "unheld", lambda *_: [])
    edit("rose-neurons", word_model, word_tokenizer, *REQUESTS, **TWO_BLOCKS)
    assert seen == [(1, 2, 2), (2, 0, 0)]  # a word and the end


def test_what_does_not_hold_is_made_anew_where_it_was(
    calls: list[tuple[str, int, int]],
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = Before(word_model)
    monkeypatch.setattr(rose_neurons, "unheld", lambda *_: [1, 2])
    applied = edit("rose-neurons", word_model, word_tokenizer, *REQUESTS, **TWO_BLOCKS)
    assert calls[4:] == [("read_held", 1, 3), ("edit_neurons", 1, 1), ("read_held", 2, 3), ("edit_neurons", 2, 1)]
    applied.undo()
    assert not before.changed(word_model)


def test_one_request_alone_has_no_others_to_be_silent_at(
    calls: list[tuple[str, int, int]], word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    edit("rose-neurons", word_model, word_tokenizer, REQUESTS[0], **TWO_BLOCKS)
    assert calls == [("edit_neurons", 1, 1)]
