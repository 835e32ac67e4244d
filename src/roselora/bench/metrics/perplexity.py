"""How well a model predicts text: the loss of each text, and perplexity."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.models.inference import eval_mode


@torch.no_grad()
def text_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int = 256
) -> list[float]:
    """The mean cross-entropy, in nats, of each text's tokens after its first, by teacher forcing.

    Texts go through the model one at a time, so that padding and batch size have no influence.

    Args:
        texts: each cut to ``max_length`` tokens.

    Raises:
        ValueError: a text has fewer than two tokens, so nothing is predicted.
    """
    with eval_mode(model):
        return [_loss(model, tokenizer, text, max_length) for text in texts]


def perplexity(losses: Sequence[float]) -> float:
    """exp of the mean of the texts' losses; every text has the same weight, however long it is.

    >>> round(perplexity([math.log(2), math.log(8)]), 6)
    4.0
    """
    return math.exp(sum(losses) / len(losses))


def _loss(model: Any, tokenizer: PreTrainedTokenizerBase, text: str, max_length: int) -> float:
    ids = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt").input_ids
    if ids.shape[1] < 2:
        raise ValueError(f"The text {text!r} has fewer than two tokens, so there is nothing to predict.")
    ids = ids.to(next(model.parameters()).device)
    logits = model(input_ids=ids).logits[0, :-1].float()
    return float(functional.cross_entropy(logits, ids[0, 1:]))
