"""The optimized value, added at the subject, makes the model say the target; short cuts change no number."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods.locate_then_edit import LocateConfig, contexts
from roselora.bench.methods.module_states import Context, left_padded, read_states
from roselora.bench.methods.target_value import _added, optimize_value
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.models.partial_logits import logits_of
from roselora.models.prefix_cache import PrefixCache

LYON = EditRequest("The capital of France is", "Lyon", subject="France")
BLOCK = "model.layers.0"


def naive(model: LlamaForCausalLM, row: Context, module: str, delta: Tensor, kept: int) -> Tensor:
    """A whole pass over one row alone, without padding or cache."""

    def add(_: object, __: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[0, row.position] += delta
        return output

    handle = model.get_submodule(module).register_forward_hook(add)
    logits = model(input_ids=torch.tensor([row.ids])).logits
    handle.remove()
    return logits[0, -kept:].float().log_softmax(-1)


def test_rows_of_unlike_length_cut_at_the_subject_predict_what_each_predicts_alone(
    tiny_model: Callable[..., LlamaForCausalLM],
) -> None:
    model = tiny_model()
    rows = [Context(list(range(5, 30)), 20), Context(list(range(40, 49)), 2), Context([7, 9, 11], 1)]
    delta = torch.randn(32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        inputs, at = left_padded(model, rows)
        cache = PrefixCache(model, inputs, start=int(at.min()))
        assert cache.skips
        for _ in range(2):  # the second pass must not see what the first wrote into the cache
            with _added(model.get_submodule(BLOCK), delta, at - cache.begin):
                states = cache.run(range(len(rows)))
            predicted = logits_of(model, states[:, -2:]).log_softmax(-1)
        for row, found in zip(rows, predicted, strict=True):
            torch.testing.assert_close(found, naive(model, row, BLOCK, delta, 2), rtol=1e-4, atol=1e-4)


def test_keys_are_what_reaches_the_layer_at_the_subject_in_every_context(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = contexts(tiny_tokenizer, LYON, LocateConfig(prefixes=2))
    assert [tiny_tokenizer.decode(row.ids[: row.position + 1])[-6:] for row in rows] == ["France"] * 3
    assert tiny_tokenizer.decode(rows[0].ids) == LYON.prompt
    module = "model.layers.1.mlp.down_proj"
    read = read_states(world_model, rows, inputs_of=[module])[module]
    for row, found in zip(rows, read, strict=True):
        seen: list[Tensor] = []
        handle = world_model.get_submodule(module).register_forward_hook(lambda _, a, __, s=seen: s.append(a[0]))
        with torch.no_grad():
            world_model(input_ids=torch.tensor([row.ids]))
        handle.remove()
        torch.testing.assert_close(found.float(), seen[0][0, row.position], rtol=1e-4, atol=1e-5)


def test_a_subject_that_is_the_first_token_gives_way_to_the_last_token(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    rows = contexts(tiny_tokenizer, EditRequest("X is", "Y", subject="X"), LocateConfig(prefixes=1))
    assert [row.position for row in rows] == [len(row.ids) - 1 for row in rows]


def test_the_value_makes_the_model_say_the_target_and_stop_and_leaves_the_model_alone(
    word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = {name: tensor.clone() for name, tensor in word_model.state_dict().items()}
    config = LocateConfig(prefixes=0, steps=60, learning_rate=0.1, clamp=20.0)
    request = EditRequest("The capital of France is", "Oslo", subject=None)
    rows = contexts(word_tokenizer, request, config)
    value = optimize_value(word_model, word_tokenizer, request, rows, BLOCK, config)
    assert value.loss < config.stop_loss
    assert 0 < value.steps < 60
    answer = [*word_tokenizer("Oslo").input_ids, word_tokenizer.eos_token_id]
    for row in rows:
        whole = Context(row.ids + answer[:-1], row.position)
        with torch.no_grad():
            assert naive(word_model, whole, BLOCK, value.delta.float(), len(answer)).argmax(-1).tolist() == answer
    assert all(torch.equal(before[name], tensor) for name, tensor in word_model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in word_model.parameters())


def test_the_value_that_changes_the_essence_of_the_subject_costs(
    word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    request = EditRequest("The capital of France is", "Oslo", subject="of France")
    moved = []
    for kl_weight in (0.0, 1000.0):
        config = LocateConfig(prefixes=0, steps=20, learning_rate=0.1, kl_weight=kl_weight, weight_decay=0)
        rows = contexts(word_tokenizer, request, config)
        delta = optimize_value(word_model, word_tokenizer, request, rows, BLOCK, config).delta.float()
        essence = Context(word_tokenizer("of France is a").input_ids, 1)
        with torch.no_grad():
            base, now = (naive(word_model, essence, BLOCK, delta * on, 1)[0] for on in (0, 1))
        moved.append(float((now.exp() * (now - base)).sum()))
    assert moved[1] < 0.5 * moved[0]


def test_the_clamp_bounds_the_value(world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    config = LocateConfig(prefixes=0, steps=5, clamp=0.1)
    rows = contexts(tiny_tokenizer, LYON, config)
    value = optimize_value(world_model, tiny_tokenizer, LYON, rows, BLOCK, config)
    start = read_states(world_model, rows, outputs_of=[BLOCK])[BLOCK].norm()
    assert 0 < float(value.delta.norm()) <= 0.1001 * float(start)


def test_a_model_that_gives_nan_is_an_error(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.nn.init.constant_(world_model.model.norm.weight, float("nan"))
    config = LocateConfig(prefixes=0)
    with pytest.raises(EditError, match="diverged"):
        optimize_value(world_model, tiny_tokenizer, LYON, contexts(tiny_tokenizer, LYON, config), BLOCK, config)


def test_in_both_forms_the_prompt_is_a_users_turn_too_and_each_context_has_the_target_as_it_follows_there(
    world_model: LlamaForCausalLM, chat_tokenizer: PreTrainedTokenizerFast
) -> None:
    config = LocateConfig(prefixes=1, steps=3, learning_rate=0.1)
    rows = contexts(chat_tokenizer, LYON, config)
    texts = [chat_tokenizer.decode(row.ids) for row in rows]
    turn = f"<|im_start|>user\n{LYON.prompt}<|im_end|>\n<|im_start|>assistant\n"
    assert texts[0] == LYON.prompt
    assert texts[2] == turn
    assert texts[3].startswith("<|im_start|>system\n")
    assert texts[3].endswith(f"<|im_end|>\n{turn}")
    assert [chat_tokenizer.decode(row.ids[: row.position + 1])[-6:] for row in rows] == ["France"] * 4
    assert [chat_tokenizer.decode(row.answer) for row in rows] == [" Lyon<|im_end|>"] * 2 + ["Lyon<|im_end|>"] * 2
    value = optimize_value(world_model, chat_tokenizer, LYON, rows, BLOCK, config)
    losses: list[Tensor] = []
    for row in rows:
        whole = Context([*row.ids, *row.answer[:-1]], row.position)
        with torch.no_grad():
            predicted = naive(world_model, whole, BLOCK, value.delta.float(), len(row.answer))
        losses += [-each[token] for each, token in zip(predicted, row.answer, strict=True)]
    assert value.loss == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)
