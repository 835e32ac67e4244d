"""Logits of some tokens are those of the model's own forward pass, whatever a family does with them."""

from typing import Any

import pytest
import torch

from roselora.errors import UnsupportedError
from roselora.models.partial_logits import logits_of
from tests.models.kinds import KINDS, LLAMA_LIKE, model

SCALING: dict[str, dict[str, Any]] = {
    "cohere2": {**LLAMA_LIKE, "logit_scale": 0.25},
    "gemma2": {**KINDS["gemma2"], "final_logit_softcapping": 0.5},
    "gemma3_text": {**LLAMA_LIKE, "final_logit_softcapping": 0.5},
    "mixtral": {**LLAMA_LIKE, "num_local_experts": 2},
    "granitemoe": {**LLAMA_LIKE, "logits_scaling": 8.0, "num_local_experts": 2},
    "phi": {**LLAMA_LIKE},  # its head has a bias
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "vocab_size": 64},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64},
}
FAMILIES = [*SCALING, *(kind for kind in KINDS if kind not in SCALING)]


@pytest.mark.parametrize("kind", FAMILIES)
def test_logits_of_states_are_the_models_own(kind: str) -> None:
    small = model(kind, **SCALING.get(kind, {}))
    ids, tokens = torch.tensor([[5, 6, 7, 8], [9, 3, 2, 1]]), torch.tensor([2, 11, 40])
    with torch.no_grad():
        expected = small(input_ids=ids).logits
        states = small.base_model(input_ids=ids)[0]
        torch.testing.assert_close(logits_of(small, states), expected)
        torch.testing.assert_close(logits_of(small, states[:, 1], tokens), expected[:, 1, tokens])
        torch.testing.assert_close(small(input_ids=ids).logits, expected)  # and the model is as it was


def test_a_forward_pass_that_was_replaced_is_put_back() -> None:
    small = model("llama")
    own = small.lm_head.forward = lambda given: 2 * torch.nn.functional.linear(given, small.lm_head.weight)
    logits_of(small, torch.randn(1, 2, 32), torch.tensor([3]))
    assert small.lm_head.forward is own


def test_gradients_reach_the_states() -> None:
    small = model("granite")
    states = torch.randn(1, 2, 32, requires_grad=True)
    logits_of(small, states, torch.tensor([3])).sum().backward()
    assert states.grad is not None
    assert states.grad.abs().sum() > 0


def test_a_model_whose_logits_come_from_elsewhere_is_refused() -> None:
    small = model("llama")
    body, head = small.model, small.lm_head
    small.forward = lambda input_ids: type("Output", (), {"logits": head(body.embed_tokens(input_ids))})()
    with pytest.raises(UnsupportedError, match="from the output of its body"):
        logits_of(small, torch.randn(1, 2, 32))
