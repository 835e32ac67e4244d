"""Small random models of several families."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 64}
LLAMA_LIKE = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0}
KINDS: dict[str, dict[str, Any]] = {
    "llama": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE,
    "mistral": LLAMA_LIKE,
    "phi3": LLAMA_LIKE,
    "gemma2": {**LLAMA_LIKE, "query_pre_attn_scalar": 16},
    "granite": {**LLAMA_LIKE, "logits_scaling": 4.0},
    "cohere": {**LLAMA_LIKE, "logit_scale": 0.25},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 64},
    "gpt_neox": {**SMALL, "intermediate_size": 64},
    "opt": {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32},
}


def model(kind: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **KINDS.get(kind, {}) | settings)).eval()
