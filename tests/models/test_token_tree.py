from typing import Any

import pytest
import torch
from torch import Tensor

from roselora.models.activation_hooks import activations
from roselora.models.architecture import edited_output
from roselora.models.token_tree import TokenTree
from tests.models.kinds import model as small_model

ROWS = [[5, 6, 7, 8, 9], [5, 6, 7, 10], [11, 12, 13], [5, 6, 7, 8, 20, 21], [5, 6]]
KINDS = ("llama", "gpt2", "gemma2", "gpt_neox", "opt")


def alone(model: Any, row: list[int]) -> Tensor:
    return model.base_model(input_ids=torch.tensor([row]), use_cache=False)[0][0]


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Any:
    return small_model(request.param).eval()


@torch.no_grad()
def test_each_text_has_the_states_that_it_has_alone(model: Any) -> None:
    tree = TokenTree(model, ROWS, 1)
    for picked in ([0, 1, 2, 3, 4], [3, 1], [2]):
        for row, states in zip(picked, tree.run(picked), strict=True):
            torch.testing.assert_close(states, alone(model, ROWS[row]), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_layer_reads_what_it_reads_when_each_text_runs_alone(model: Any) -> None:
    _, layer = edited_output(model, 0.5)
    for row, read in zip(ROWS, TokenTree(model, ROWS, 1).read(model.get_submodule(layer)), strict=True):
        given = activations(model, {"input_ids": torch.tensor([row])}, [layer])[layer].input
        torch.testing.assert_close(read, given.reshape(len(row), -1), atol=1e-4, rtol=1e-4)


def test_a_change_in_the_blocks_that_run_again_is_seen_and_has_its_gradient() -> None:
    model = small_model("llama").eval()
    tree = TokenTree(model, ROWS, 1)
    weight = model.model.layers[2].mlp.down_proj.weight
    with torch.no_grad():
        weight.mul_(-2)
    for row, states in zip(ROWS, tree.run(range(len(ROWS))), strict=True):
        torch.testing.assert_close(states, alone(model, row), atol=1e-4, rtol=1e-4)
    (packed,) = torch.autograd.grad(sum(states.sum() for states in tree.run([0, 2])), [weight])
    (each,) = torch.autograd.grad(sum(alone(model, ROWS[row]).sum() for row in (0, 2)), [weight])
    torch.testing.assert_close(packed, each, atol=1e-3, rtol=1e-3)


def test_equal_beginnings_run_once_and_only_in_the_blocks_that_may_have_changed() -> None:
    model = small_model("llama").eval()
    tree = TokenTree(model, ROWS, 2)
    ran: list[tuple[int, int]] = []
    for number, block in enumerate(model.model.layers):
        block.mlp.register_forward_hook(lambda _, given, __, number=number: ran.append((number, given[0].shape[1])))
    tree.run([0, 1, 2])
    assert ran == [(2, 5 + 1 + 3)]


def test_a_model_that_attends_otherwise_runs_padded_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("llama").eval()
    forward = model.model.forward

    def without_masks_of_pairs(*given: Any, attention_mask: Tensor | None = None, **more: Any) -> Any:
        mask = None if attention_mask is None or attention_mask.ndim == 4 else attention_mask
        return forward(*given, attention_mask=mask, **more)

    monkeypatch.setattr(model.model, "forward", without_masks_of_pairs)
    for row, states in zip(ROWS, TokenTree(model, ROWS, 1).run(range(len(ROWS))), strict=True):
        torch.testing.assert_close(states, alone(model, row), atol=1e-4, rtol=1e-4)
