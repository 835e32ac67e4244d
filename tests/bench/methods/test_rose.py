"""RoseLoRA's factors of named modules; those of neurons are edited as `gate` is, and are tested with it."""

from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import roselora.bench.methods.rose as module
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.request import EditRequest
from tests.bench.methods.editing import FRANCE, GOLD, Before, edit


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The prompts that each training was told to hold."""
    calls: list[list[str]] = []
    train = module.train_factors

    def noting(*arguments: Any) -> Any:
        calls.append(list(arguments[4]))
        return train(*arguments)

    monkeypatch.setattr(module, "train_factors", noting)
    return calls


def test_the_prompts_of_earlier_calls_and_of_this_call_are_held(
    held: list[list[str]], world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    iron = EditRequest("The symbol of iron is ", "Au.", rephrasings=("Iron's symbol is ",))
    first = edit("rose-published", world_model, tiny_tokenizer, FRANCE)
    second = edit("rose-published", world_model, tiny_tokenizer, iron, GOLD, history=(first,))
    assert held == [[], [FRANCE.prompt], [FRANCE.prompt, *iron.prompts]]
    second.undo()


def test_a_target_that_was_not_reached_counts_and_its_delta_is_applied_as_it_is(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(world_model)
    applied = edit("rose-published", world_model, tiny_tokenizer, FRANCE, max_steps=20, learning_rate=1e-5)
    assert applied.steps == 20
    assert applied.entries == sum(before.changed(world_model).values()) > 0


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_entries_that_two_deltas_share_count_once_and_dense_deltas_too_are_undone_exactly(
    density: float,
    world_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deltas: list[SparseDelta] = []
    factors_delta = module.factors_delta
    monkeypatch.setattr(module, "factors_delta", lambda *given: deltas.append(factors_delta(*given)) or deltas[-1])
    base = Before(world_model)
    first = edit("rose-published", world_model, tiny_tokenizer, FRANCE, GOLD, density=density)
    each = [sum(len(weight.expand()[0]) for weight in delta.weights) for delta in deltas]
    assert max(each) * 0.9 < first.entries == sum(base.changed(world_model).values()) < sum(each)
    between = Before(world_model)
    second = edit("rose-published", world_model, tiny_tokenizer, FRANCE, history=(first,), density=density, seed=1)
    second.undo()
    assert between.changed(world_model) == {}
    first.undo()
    assert base.changed(world_model) == {}
