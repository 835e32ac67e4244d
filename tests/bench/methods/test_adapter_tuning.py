import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.bench.methods.editing import FRANCE, GOLD, Before, ask, edit

ADAPTED = [f"model.layers.{layer}.self_attn.{name}.weight" for layer in (0, 1) for name in ("q_proj", "v_proj")]


@pytest.mark.parametrize("name", ["lora", "adalora"])
def test_the_update_is_in_the_adapted_weights_with_at_most_its_rank_and_no_adapter_is_left(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(world_model)
    edit(name, world_model, tiny_tokenizer, FRANCE, rank=2)
    changed = set(before.changed(world_model))
    assert changed == set(ADAPTED) if name == "lora" else changed <= set(ADAPTED)  # AdaLoRA may leave one without rank
    assert not any(isinstance(module, BaseTunerLayer) for module in world_model.modules())
    updates = [world_model.get_parameter(weight).detach() - before.tensors[weight] for weight in ADAPTED]
    ranks = [int(torch.linalg.matrix_rank(update, rtol=1e-4)) for update in updates]
    assert sum(ranks) <= 2 * len(ADAPTED)
    assert max(ranks) <= (2 if name == "lora" else 12)


def test_adalora_shares_its_budget_out_unevenly_and_trains_until_it_is_spent(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(world_model)
    applied = edit("adalora", world_model, tiny_tokenizer, FRANCE, rank=2, epochs=40, stop_loss=100.0)
    assert applied.steps == 21  # half of its steps, and the one that spends the last of the budget
    updates = [world_model.get_parameter(weight).detach() - before.tensors[weight] for weight in ADAPTED]
    ranks = [int(torch.linalg.matrix_rank(update, rtol=1e-4)) for update in updates]
    assert 0 < sum(ranks) <= 2 * len(ADAPTED)
    assert len(set(ranks)) > 1


@pytest.mark.parametrize("name", ["lora", "adalora"])
def test_other_modules_can_be_adapted(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(world_model)
    edit(name, world_model, tiny_tokenizer, FRANCE, GOLD, target_modules=("down_proj",))
    assert sorted(before.changed(world_model)) == [f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1)]


@pytest.mark.parametrize("name", ["ft-l", "lora", "adalora", "grace"])
def test_a_model_with_other_names_and_transposed_layers_is_edited_without_a_setting(
    name: str, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tiny_tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=256, n_inner=96)
    model = GPT2LMHeadModel(config).eval()
    before, said = Before(model), ask(model, tiny_tokenizer, FRANCE)
    applied = edit(name, model, tiny_tokenizer, FRANCE)
    assert applied.steps > 0
    assert applied.entries == sum(before.changed(model).values())
    assert ask(model, tiny_tokenizer, FRANCE) != said
    applied.undo()
    assert before.changed(model) == {}
    assert ask(model, tiny_tokenizer, FRANCE) == said
