"""The parts of a model's MLPs that make a neuron, in every family."""

from typing import Any

import pytest
import torch

from roselora.errors import UnsupportedError
from roselora.models.mlp_neurons import added_output, neuron_activity, neurons, recorded_inputs, silenced, weight_matrix
from tests.models.kinds import KINDS, model

PLAIN = {"gpt2", "gpt_neox", "opt"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_mlp_is_the_sum_of_its_neurons(kind: str) -> None:
    small = model(kind)
    place = neurons(small, 1)
    assert (place.gate is None) == (kind in PLAIN)
    written: list[torch.Tensor] = []
    writer = small.get_submodule(place.writer)
    writer.register_forward_hook(lambda _, __, made: written.append(made))
    with torch.no_grad(), recorded_inputs(small, place) as read:
        small(torch.tensor([[5, 6, 7]]))

    def rows(reader: Any) -> torch.Tensor:
        return weight_matrix(small.get_submodule(reader.layer))[reader.offset : reader.offset + place.count]

    # The families with biases start them at zero.
    made = neuron_activity(place, place.gate and rows(place.gate), rows(place.up), read[0]) @ weight_matrix(writer).T
    torch.testing.assert_close(made, written[0].view_as(made))


def test_phi_reads_both_rows_by_one_layer() -> None:
    small = model("phi3", **{**KINDS["llama"]})
    place = neurons(small, 0)
    assert place.gate is not None
    assert place.gate.layer == place.up.layer
    assert (place.gate.offset, place.up.offset, place.count) == (0, 48, 48)


def test_what_is_added_comes_out_of_the_mlp() -> None:
    small = model("llama")
    place = neurons(small, 1)
    ids = torch.tensor([[5, 6, 7]])
    outputs: list[torch.Tensor] = []
    small.model.layers[1].mlp.register_forward_hook(lambda _, __, made: outputs.append(made))
    with torch.no_grad():
        small(ids)
        more = torch.arange(96.0).view(1, 3, 32)
        with added_output(small, place, more):
            small(ids)
        small(ids)
    torch.testing.assert_close(outputs[1], outputs[0] + more)
    torch.testing.assert_close(outputs[2], outputs[0])


@pytest.mark.parametrize("kind", ["llama", "gpt2", "phi3"])
def test_silent_neurons_write_what_columns_of_zeros_would(kind: str) -> None:
    small = model(kind)
    place = neurons(small, 1)
    ids = torch.tensor([[5, 6, 7]])
    writes = weight_matrix(small.get_submodule(place.writer))
    before = writes.clone()
    with torch.no_grad():
        whole = small(ids).logits
        with silenced(small, place, [3, 0]):
            made = small(ids).logits
        assert torch.equal(writes, before)
        assert torch.equal(small(ids).logits, whole)
        writes[:, [0, 3]] = 0
        torch.testing.assert_close(made, small(ids).logits)
    assert not torch.equal(made, whole)


@pytest.mark.parametrize("act", ["relu2", "tanh"])
def test_an_activation_that_does_not_rectify_is_refused(act: str) -> None:
    with pytest.raises(UnsupportedError, match="rectifies"):
        neurons(model("llama", hidden_act=act), 0)
