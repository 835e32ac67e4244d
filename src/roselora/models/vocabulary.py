"""Logits of a few tokens, where those of all would be most of the work."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


def logits_of(model: PreTrainedModel, states: Tensor, tokens: Tensor | None = None) -> Tensor:
    """The logits that the model gives some tokens, or all, after hidden states of its body: (..., tokens) fp32.

    Args:
        states: (..., width), what the model's body gives out.
        tokens: (tokens,) int64.
    """
    get_head: Any = model.get_output_embeddings
    head = get_head()
    weight, bias = head.weight, getattr(head, "bias", None)
    if tokens is not None:
        weight, bias = weight[tokens], None if bias is None else bias[tokens]
    logits: Tensor = torch.nn.functional.linear(states, weight, bias).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)
