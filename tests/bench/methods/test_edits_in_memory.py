"""Edits in no store go into the weights, are replaced and are taken out as those of a store."""

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods.edits_in_memory import EditsInMemory
from roselora.delta.layer_kinds import layer_factors
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.proposal import Proposal
from roselora.editing.request import EditRequest
from tests.bench.methods.editing import FRANCE, GOLD, Before

LAYER = "model.layers.1.mlp.down_proj"
IRON = EditRequest("The symbol of iron is ", "Au.")


@pytest.fixture
def edits(tiny_model: Callable[..., LlamaForCausalLM], tiny_tokenizer: PreTrainedTokenizerFast) -> EditsInMemory:
    return EditsInMemory(tiny_model(), tiny_tokenizer, PreviousEdits([IRON], {1: [7]}))


def proposal(edits: EditsInMemory, request: EditRequest, column: int) -> Proposal:
    """Adds 1 to one column of a layer, as the neuron of that number."""
    layer = edits.model.get_submodule(LAYER)
    rows, columns = layer.weight.shape
    a = torch.zeros(1, columns)
    a[0, column] = 1
    factors = layer_factors(LAYER, layer, a, torch.ones(rows, 1), 1.0, edits.overlay.base_sha256(f"{LAYER}.weight"))
    return Proposal(request, SparseDelta((factors,)), {"neurons": {"block": 1, "indices": [column]}})


def test_what_earlier_calls_and_this_one_have_edited_is_previous_to_the_next_edit(edits: EditsInMemory) -> None:
    edits.commit(proposal(edits, FRANCE, 3))
    previous = edits.previous_edits(beside=[GOLD, FRANCE])
    assert previous.requests == [IRON, FRANCE, GOLD]
    assert previous.neurons == {1: [7, 3]}


def test_an_edit_that_replaces_another_gives_its_neurons_back_and_all_are_undone(edits: EditsInMemory) -> None:
    before = Before(edits.model)
    old = edits.commit(proposal(edits, FRANCE, 3))
    edits.commit(proposal(edits, GOLD, 4))
    edits.overlay.remove(old.id)
    edits.commit(proposal(edits, FRANCE, 5), instead_of=old.id)
    assert [edit.request for edit in edits.bring_up_to_date()] == [GOLD, FRANCE]
    assert edits.previous_edits().neurons == {1: [7, 4, 5]}
    assert edits.previous_edits().undone == {1: [3]}
    changed = edits.model.get_parameter(f"{LAYER}.weight").detach() != before.tensors[f"{LAYER}.weight"]
    assert changed.any(0).nonzero()[:, 0].tolist() == [4, 5]
    assert edits.deltas.entries() == int(changed.sum())
    edits.deltas.restore()
    assert not before.changed(edits.model)


def test_an_active_edit_that_was_taken_out_is_put_back(edits: EditsInMemory) -> None:
    edit = edits.commit(proposal(edits, FRANCE, 3))
    edited = Before(edits.model)
    edits.overlay.remove(edit.id)
    assert edited.changed(edits.model)
    assert edits.bring_up_to_date() == [edit]
    assert not edited.changed(edits.model)
