"""Blocks and MLP outputs are found from a model's own modules, whatever its family calls them."""

from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from roselora.errors import ConfigError, UnsupportedError
from roselora.models.architecture import block_at, block_names, mlp_output

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 64}
LLAMA_LIKE = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0}


def model(kind: str, **settings: Any) -> Any:
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2"])
def test_llama_like_models_write_by_down_proj_even_where_attention_is_wider_than_the_model(kind: str) -> None:
    assert mlp_output(model(kind, **LLAMA_LIKE), 1) == "model.layers.1.mlp.down_proj"


def test_gpt2_and_neox_and_opt_have_their_own_names() -> None:
    gpt2 = model("gpt2", n_embd=32, n_layer=3, n_head=4, vocab_size=64)
    assert block_names(gpt2) == ["transformer.h.0", "transformer.h.1", "transformer.h.2"]
    assert mlp_output(gpt2, 2) == "transformer.h.2.mlp.c_proj"
    neox = model("gpt_neox", **SMALL, intermediate_size=64)
    assert mlp_output(neox, 0) == "gpt_neox.layers.0.mlp.dense_4h_to_h"
    opt = model("opt", **SMALL, ffn_dim=64, word_embed_proj_dim=32)
    assert mlp_output(opt, 0) == "model.decoder.layers.0.fc2"


def test_depth_counts_from_the_first_block_to_the_last() -> None:
    three = model("llama", **LLAMA_LIKE)
    assert [block_at(three, depth) for depth in (0, 0.4, 0.6, 1)] == [0, 1, 1, 2]
    with pytest.raises(ConfigError, match=r"between 0 and 1, not 1\.5"):
        block_at(three, 1.5)
    with pytest.raises(ConfigError, match="There is no layer 3: the model has the layers 0 to 2"):
        mlp_output(three, 3)


def test_experts_are_refused() -> None:
    mixture = model("mixtral", **LLAMA_LIKE, num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(UnsupportedError, match="no single linear layer"):
        mlp_output(mixture, 0)
