"""Weights under the names that a model's checkpoint has them by, where transformers loads them under others."""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion


def in_checkpoint(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Some of a model's weights as its checkpoint names, splits or joins them.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> model = LlamaForCausalLM(LlamaConfig(8, 4, 8, 1, num_attention_heads=1))
    >>> list(in_checkpoint(model, {"lm_head.weight": model.lm_head.weight}))
    ['lm_head.weight']
    """
    found: dict[str, Tensor] = revert_weight_conversion(model, dict(weights))
    return found
