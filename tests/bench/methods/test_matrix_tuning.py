import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods.edited_layer import LayerConfig, edited_layer
from roselora.bench.methods.ft_l import norm_ball
from tests.bench.methods.editing import FRANCE, GOLD, Before, edit


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bound", [5e-4, 0.05])
def test_ft_l_keeps_every_entry_exactly_within_the_bound(
    dtype: torch.dtype, bound: float, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = world_model.to(dtype)
    name, module = edited_layer(model, LayerConfig())
    before = module.weight.detach().double().clone()
    applied = edit("ft-l", model, tiny_tokenizer, FRANCE, norm_bound=bound, learning_rate=0.02, epochs=20)
    moved = (module.weight.detach().double() - before).abs()
    assert applied.entries > 0
    assert float(moved.max()) <= bound
    # And the bound was what held: without it the same training goes beyond.
    applied.undo()
    edit("ft-m", model, tiny_tokenizer, FRANCE, learning_rate=0.02, epochs=20, module=name.split(".", 3)[3])
    assert float((module.weight.detach().double() - before).abs().max()) > bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_norm_ball_ends_at_the_last_numbers_within_the_bound(dtype: torch.dtype) -> None:
    center = torch.randn(4000, generator=torch.Generator().manual_seed(0)).to(dtype)
    center[:3] = torch.tensor([0.0, 1e-3, -1e-3])
    bound = 3e-3
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    for edge, outwards in zip(norm_ball(center, bound), (-1, 1), strict=True):
        assert float((edge.double() - center.double()).abs().max()) <= bound
        away = torch.where(edge.sign() == outwards, edge.view(bits) + 1, edge.view(bits) - 1).view(dtype)
        assert float((away.double() - center.double()).abs().min()) > bound


@pytest.mark.parametrize("name", ["ft-l", "ft-m", "locft-bf"])
@pytest.mark.parametrize(
    ("settings", "matrix"),
    [
        ({}, "model.layers.1.mlp.down_proj.weight"),
        ({"depth": 0.2}, "model.layers.0.mlp.down_proj.weight"),
        ({"layer": 0}, "model.layers.0.mlp.down_proj.weight"),
        ({"layer": 0, "module": "self_attn.v_proj"}, "model.layers.0.self_attn.v_proj.weight"),
    ],
)
def test_exactly_one_matrix_is_touched_and_nothing_else_bit_for_bit(
    name: str,
    settings: dict[str, object],
    matrix: str,
    world_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    before = Before(world_model)
    edit(name, world_model, tiny_tokenizer, FRANCE, GOLD, epochs=2, **settings)
    assert list(before.changed(world_model)) == [matrix]


def test_locft_takes_one_step_an_epoch_for_up_to_a_hundred_requests(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    assert edit("locft-bf", world_model, tiny_tokenizer, FRANCE, GOLD, epochs=3).steps == 3
    assert edit("locft-bf", world_model, tiny_tokenizer, FRANCE, GOLD, epochs=3, batch_size=1).steps == 6
