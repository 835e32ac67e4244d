"""Wider MLPs: the same answers, the added neurons at the end of every layer's own, and a folder that loads."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from roselora.errors import ConfigError, UnsupportedError
from roselora.models.mlp_neurons import neurons, own_importance, weight_matrix
from roselora.models.wider_mlps import widen
from tests.models.kinds import KINDS, model

IDS = torch.arange(1, 9).reshape(2, 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [5, 300])
def test_a_wider_model_answers_as_before_and_is_saved_as_one(kind: str, more: int, tmp_path) -> None:
    small = model(kind)
    before, old = small(IDS).logits, [neurons(small, block) for block in range(3)]
    rows = [weight_matrix(small.get_submodule(mlp.up.layer))[mlp.up.offset :][: mlp.count].clone() for mlp in old]
    widen(small, more)
    torch.testing.assert_close(small(IDS).logits, before)
    for mlp, earlier, row in zip((neurons(small, block) for block in range(3)), old, rows, strict=True):
        assert mlp.count == earlier.count + more
        kept = weight_matrix(small.get_submodule(mlp.up.layer))[mlp.up.offset :][: earlier.count]
        assert torch.equal(kept, row)
        importance = own_importance(small, mlp, torch.randn(7, 32))
        assert (importance[: earlier.count] > 0).any()
        assert (importance[earlier.count :] == 0).all()
    small.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(IDS).logits, small(IDS).logits)


def test_a_bias_is_widened_too() -> None:
    small = model("llama", mlp_bias=True)
    with torch.no_grad():
        for block in small.model.layers:
            block.mlp.gate_proj.bias.normal_()
            block.mlp.down_proj.bias.normal_()
    before = small(IDS).logits
    widen(small, 7)
    torch.testing.assert_close(small(IDS).logits, before)
    assert small.model.layers[0].mlp.gate_proj.bias[-7:].tolist() == [0.0] * 7


def test_what_cannot_be_widened_is_refused_and_stays_as_it_was() -> None:
    small = model("llama")
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    with pytest.raises(ConfigError, match="1 neuron or more, not 0"):
        widen(small, 0)
    small.config.intermediate_size = 40  # as where blocks differ
    with pytest.raises(UnsupportedError, match="no width for the MLPs of all blocks"):
        widen(small, 4)
    small.config.intermediate_size = 48
    small.model.layers[1].mlp.down_proj.weight = small.model.layers[0].mlp.down_proj.weight
    with pytest.raises(UnsupportedError, match="shared or quantized"):
        widen(small, 4)
    small.model.layers[1].mlp.down_proj.weight = torch.nn.Parameter(before["model.layers.1.mlp.down_proj.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())
