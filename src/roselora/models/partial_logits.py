"""Logits from hidden states, of a few tokens only where the whole vocabulary would be most of the work."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from roselora.errors import UnsupportedError
from roselora.models.activation_hooks import replaced_forward
from roselora.models.inference import known_arguments


def logits_of(model: PreTrainedModel, states: Tensor, tokens: Tensor | None = None) -> Tensor:
    """The logits, (..., tokens) fp32, of some tokens or all after hidden states.

    The model's forward pass runs from the end of its body on, so that scales and caps of its family are applied.

    Args:
        states: (..., width), outputs of the model's body.
        tokens: (tokens,) int64; by default the whole vocabulary.

    Raises:
        UnsupportedError: the model does not compute its logits from the output of its body.
    """
    rows = states.reshape(1, -1, states.shape[-1])
    ids = torch.zeros(rows.shape[:2], dtype=torch.long, device=states.device)
    forward: Any = model
    with _body_giving(model, rows) as used, _head_of(model, tokens):
        logits: Tensor = forward(input_ids=ids, **known_arguments(model, use_cache=False)).logits
    if not used:
        raise UnsupportedError(f"{type(model).__name__} does not compute its logits from the output of its body.")
    return logits.reshape(*states.shape[:-1], -1).float()


class _Given(BaseModelOutputWithPast):
    """A body's output in which all but the hidden states is None, whatever a family calls it."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def _body_giving(model: PreTrainedModel, states: Tensor) -> Iterator[list[bool]]:
    """Inside, the model's body only returns these states; yields a list that is empty until the body is called."""
    own: Any = model
    used: list[bool] = []

    def give(*_: Any, **__: Any) -> _Given:
        used.append(True)
        return _Given(last_hidden_state=states)

    with replaced_forward({own.base_model, own.get_decoder()}, give):  # some families call the inner one themselves
        yield used


@contextmanager
def _head_of(model: PreTrainedModel, tokens: Tensor | None) -> Iterator[None]:
    """Inside, the model's head computes the logits of these tokens alone."""
    if tokens is None:
        yield
        return
    get_head: Any = model.get_output_embeddings
    head: Any = get_head()
    weight, bias = head.weight[tokens], getattr(head, "bias", None)
    bias = None if bias is None else bias[tokens]
    with replaced_forward([head], lambda given: functional.linear(given, weight, bias)):
        yield
