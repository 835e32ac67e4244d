"""Lower blocks that do not change are run once: the logits are those of the whole model, and less is computed."""

import pytest
import torch

from roselora.models.frozen_blocks import lower_blocks
from tests.models.kinds import KINDS, model

ROWS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16]]


def padded(picked: list[int]) -> dict[str, torch.Tensor]:
    length = max(len(ROWS[index]) for index in picked)
    ids = torch.tensor([ROWS[index] + [0] * (length - len(ROWS[index])) for index in picked])
    mask = torch.tensor([[1] * len(ROWS[index]) + [0] * (length - len(ROWS[index])) for index in picked])
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_those_of_the_whole_model(kind: str) -> None:
    small = model(kind)
    lower = lower_blocks(small, 2, ROWS)
    assert lower is not None, "this family allows it"
    batch = padded([2, 1])
    last = [parameter for name, parameter in small.named_parameters() if ".2." in name]
    whole = small(**batch, use_cache=False).logits
    with lower.skipped([2, 1]):
        skipping = small(**batch, use_cache=False).logits
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(skipping[real], whole[real])
    expected = torch.autograd.grad(whole[real].square().sum(), last)
    torch.testing.assert_close(torch.autograd.grad(skipping[real].square().sum(), last), expected)
    torch.testing.assert_close(small(**batch, use_cache=False).logits, whole, rtol=0, atol=0)


def test_the_blocks_below_do_not_run() -> None:
    small = model("llama")
    lower = lower_blocks(small, 2, ROWS)
    assert lower is not None
    calls: list[int] = []
    for index, block in enumerate(small.model.layers):
        block.mlp.register_forward_hook(lambda *_, index=index: calls.append(index))
    with lower.skipped([0]):
        small(**padded([0]))
    assert calls == [2]


def test_nothing_is_skipped_below_the_first_block() -> None:
    assert lower_blocks(model("llama"), 0, ROWS) is None


def test_a_model_that_hands_on_more_than_hidden_states_runs_as_a_whole() -> None:
    small = model("llama")
    handed: list[torch.Tensor] = [torch.zeros(1)]
    # As in models whose upper blocks use what lower ones computed.
    small.model.layers[0].self_attn.o_proj.register_forward_hook(lambda _, __, output: handed.append(output[0, -1]))
    small.model.layers[2].register_forward_hook(lambda _, __, output: output + 100 * handed.pop())
    assert lower_blocks(small, 2, ROWS) is None


def test_an_error_inside_puts_the_blocks_back() -> None:
    small = model("llama")
    lower = lower_blocks(small, 1, ROWS)
    assert lower is not None
    with pytest.raises(RuntimeError), lower.skipped([0]):
        raise RuntimeError
    assert "forward" not in small.model.layers[0].__dict__
