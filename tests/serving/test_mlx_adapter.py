"""Adapter folders of mlx-lm: transposed factors of one rank, a config of its own, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from roselora.delta.layer_kinds import layer_factors
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import UnsupportedError
from roselora.serving.mlx_adapter import export_mlx, holds_mlx
from tests.models import kinds
from tests.serving.test_gguf import delta


def test_the_factors_are_transposed_and_padded_and_the_config_reaches_down_to_the_lowest_block(tmp_path: Path) -> None:
    model = kinds.model("llama")
    update = delta(model, ("model.layers.1.mlp.down_proj", 2, 0.5), ("model.layers.2.self_attn.q_proj", 3, -2.0))
    export_mlx(update, tmp_path / "out", model)
    assert holds_mlx(tmp_path / "out", update)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == {
        "fine_tune_type": "lora",
        "num_layers": 2,
        "lora_parameters": {"rank": 3, "scale": 1.0, "dropout": 0.0, "keys": ["mlp.down_proj", "self_attn.q_proj"]},
    }
    saved = load_file(tmp_path / "out" / "adapters.safetensors")
    assert len(saved) == 4
    for factors in update.weights:
        module = factors.name.removesuffix(".weight")
        assert saved[f"{module}.lora_a"].shape == (factors.shape[1], 3)
        A, B = factors.to_factors()
        product = saved[f"{module}.lora_a"] @ saved[f"{module}.lora_b"]
        torch.testing.assert_close(product.T, factors.scale * B @ A)


def test_what_mlx_lm_takes_no_adapter_of_is_refused(tmp_path: Path) -> None:
    model = kinds.model("llama")
    embedding = layer_factors("model.embed_tokens", model.model.embed_tokens, torch.ones(1, 64), torch.ones(32, 1), 1.0)
    head = layer_factors("lm_head", model.lm_head, torch.ones(1, 32), torch.ones(64, 1), 1.0)
    for factors in (embedding, head):
        with pytest.raises(UnsupportedError, match="mlx-lm takes no adapter"):
            export_mlx(SparseDelta((factors,)), tmp_path / "out", model)
    assert not (tmp_path / "out").exists()
