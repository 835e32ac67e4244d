"""Prefixes and lower blocks that do not change run once: states and logits are those of the whole model."""

import pytest
import torch

from roselora.models.architecture import block_names
from roselora.models.padding import padded_inputs
from roselora.models.prefix_cache import TOLERANCE, PrefixCache, SplitRow
from tests.models.kinds import KINDS, model

ROWS = [SplitRow([5, 6, 7], [8]), SplitRow([9], [10, 11, 12]), SplitRow([11, 12, 13, 14], [15, 16])]
WHOLE = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16]]


def alone(small: torch.nn.Module, row: SplitRow) -> torch.Tensor:
    """The output of the model's body at a row's suffix when the row runs by itself, (len(suffix), width)."""
    body = small.base_model
    return body(input_ids=torch.tensor([row.prefix + row.suffix]), use_cache=False)[0][0, len(row.prefix) :]


@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_are_those_of_each_row_alone(kind: str) -> None:
    small = model(kind)
    cache = PrefixCache.of_rows(small, 2, ROWS)
    assert cache.skips, "this family allows it"
    last = [parameter for name, parameter in small.named_parameters() if ".2." in name and "k_proj" not in name]
    for picked in ([0, 1, 2], [2, 0], [1]):
        states = cache.run(picked)
        for place, index in enumerate(picked):
            whole = alone(small, ROWS[index])
            torch.testing.assert_close(states[place, : len(whole)], whole)
            torch.testing.assert_close(cache.states[index][cache.mask[index, cache.start :]], whole)
    assert cache.run([1])[0, 2].requires_grad
    torch.autograd.grad(cache.run([1]).square().sum(), last, allow_unused=True)


def test_a_change_in_the_block_is_seen_at_the_suffixes() -> None:
    small = model("llama")
    cache = PrefixCache.of_rows(small, 1, ROWS)
    with torch.no_grad():
        small.model.layers[1].mlp.down_proj.weight.mul_(3)
    # At its first token a row with a head of one token sees a head that has not changed in the blocks above.
    assert not torch.allclose(cache.run([0])[0, 0], cache.states[0, 0])


def test_neither_the_heads_nor_the_blocks_below_run() -> None:
    small = model("llama")
    cache = PrefixCache.of_rows(small, 2, ROWS)
    seen: list[tuple[int, int]] = []
    for index, name in enumerate(block_names(small)):
        mlp = small.get_submodule(name).mlp
        mlp.register_forward_hook(lambda _, given, made, index=index: seen.append((index, given[0].shape[1])))
    cache.run([0, 2])
    cache.run([1])
    longest = [max(len(ROWS[0].suffix), len(ROWS[2].suffix)), len(ROWS[1].suffix)]
    assert seen == [(2, longest[0]), (2, longest[1])], (
        "one block, and no more positions than the longest suffix at hand"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_those_of_the_whole_model(kind: str) -> None:
    small = model(kind)
    lower = PrefixCache(small, padded_inputs(WHOLE), block=2, batch_size=1)
    assert lower.skips, "this family allows it"
    batch = padded_inputs([WHOLE[2], WHOLE[1]])
    last = [parameter for name, parameter in small.named_parameters() if ".2." in name]
    whole = small(**batch, use_cache=False).logits
    with lower.skipping([2, 1]):
        skipping = small(**batch, use_cache=False).logits
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(skipping[real], whole[real])
    expected = torch.autograd.grad(whole[real].square().sum(), last)
    torch.testing.assert_close(torch.autograd.grad(skipping[real].square().sum(), last), expected)
    torch.testing.assert_close(small(**batch, use_cache=False).logits, whole, rtol=0, atol=0)


def test_the_blocks_below_do_not_run() -> None:
    small = model("llama")
    lower = PrefixCache(small, padded_inputs(WHOLE), block=2, batch_size=1)
    calls: list[int] = []
    for index, block in enumerate(small.model.layers):
        block.mlp.register_forward_hook(lambda *_, index=index: calls.append(index))
    with lower.skipping([0]):
        small(**padded_inputs(WHOLE[:1]))
    assert calls == [2]


def test_nothing_is_skipped_below_the_first_block_and_column() -> None:
    assert not PrefixCache(model("llama"), padded_inputs(WHOLE)).skips


def test_a_model_that_passes_on_more_than_hidden_states_runs_all_of_its_blocks() -> None:
    small = model("llama")
    handed: list[torch.Tensor] = [torch.zeros(1)]
    # As in models whose upper blocks use what lower ones computed.
    small.model.layers[0].self_attn.o_proj.register_forward_hook(lambda _, __, output: handed.append(output[0, -1]))
    small.model.layers[2].register_forward_hook(lambda _, __, output: output + 100 * handed.pop())
    assert not PrefixCache(small, padded_inputs(WHOLE), block=2, batch_size=1).skips


def test_a_model_in_half_precision_skips_although_each_way_of_computing_rounds_otherwise() -> None:
    small = model("llama", num_hidden_layers=8, hidden_size=256, intermediate_size=512, initializer_range=0.2)
    tokens = torch.randint(64, (10, 40), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [SplitRow(tokens[0][:24] * (n % 2) + tokens[n][: 5 + n // 2], tokens[n][-3:]) for n in range(10)]
    cache = PrefixCache.of_rows(small.bfloat16(), 7, rows)
    cache.skips = False
    whole = cache.run([9])
    cache.skips = True
    apart = float((cache.run([9]) - whole).detach().norm() / whole.detach().norm())
    assert apart > TOLERANCE, "or this shows nothing"
    assert PrefixCache.of_rows(small, 7, rows).skips


@pytest.mark.parametrize(("dtype", "layers"), [(torch.float32, 3), (torch.bfloat16, 3), (torch.bfloat16, 32)])
def test_where_attention_looks_back_less_far_than_a_prefix_all_runs_even_if_the_first_row_has_none(
    dtype: torch.dtype, layers: int
) -> None:
    rows = [SplitRow([], [5, 6, 7, 8]), SplitRow([9, 10, 11], [12, 13, 14, 15]), SplitRow([16], [17, 18])]
    for window, skips in ((5, False), (16, True)):
        small = model("mistral", sliding_window=window, num_hidden_layers=layers).to(dtype)
        cache = PrefixCache.of_rows(small, 2, rows)
        for index, row in enumerate(rows):
            whole = alone(small, row)
            torch.testing.assert_close(cache.run([index])[0, : len(whole)], whole)
        assert cache.skips == skips


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_hands_on_more_than_hidden_states_runs_as_a_whole(dtype: torch.dtype) -> None:
    small = model("llama").to(dtype)
    handed: list[torch.Tensor] = []
    # As in models whose upper blocks use what lower ones computed.
    small.model.layers[0].self_attn.o_proj.register_forward_hook(lambda _, __, output: handed.append(output[:, -1:]))
    small.model.layers[2].register_forward_hook(lambda _, __, output: output + handed.pop())
    cache = PrefixCache.of_rows(small, 2, ROWS)
    assert not cache.skips
    torch.testing.assert_close(cache.run([1])[0], cache.states[1])


def test_an_error_inside_puts_the_blocks_back() -> None:
    small = model("llama")
    cache = PrefixCache.of_rows(small, 1, ROWS)
    handle = small.model.layers[2].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.run([0])
    handle.remove()
    assert "forward" not in small.model.layers[0].__dict__

    cache = PrefixCache(small, padded_inputs(WHOLE), block=1)
    with pytest.raises(RuntimeError), cache.skipping([0]):
        raise RuntimeError
    assert "forward" not in small.model.layers[0].__dict__
