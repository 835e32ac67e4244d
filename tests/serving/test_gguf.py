"""GGUF files for llama.cpp: what an adapter and an edited model hold, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from torch import nn

from roselora.delta.layer_kinds import layer_factors
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import ModelError, UnsupportedError
from roselora.serving.gguf_adapter import export_gguf_lora, holds_gguf_lora
from roselora.serving.gguf_model import EDITED, export_gguf, holds_gguf, require_gguf_base
from roselora.serving.gguf_names import in_ggufs_order, tensor_name
from tests.models import kinds
from tests.serving.test_edit_export import delta as delta_of_one


def delta(model: Any, *updates: tuple[str, int, float]) -> SparseDelta:
    """A random update of each module, of a rank and a scale."""
    return SparseDelta(tuple(factors for each in updates for factors in delta_of_one(model, *each).weights))


def read(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def test_an_adapter_keeps_each_weights_own_rank_and_has_its_scale_in_b(tmp_path: Path) -> None:
    model = kinds.model("qwen3")
    update = delta(model, ("model.layers.0.mlp.down_proj", 2, 0.5), ("model.layers.2.self_attn.q_proj", 3, -2.0))
    export_gguf_lora(update, tmp_path / "adapter.gguf", model)
    assert holds_gguf_lora(tmp_path / "adapter.gguf", update, model)
    fields = GGUFReader(tmp_path / "adapter.gguf").fields
    said = {name: fields[name].contents() for name in ("general.type", "general.architecture", "adapter.type")}
    assert said == {"general.type": "adapter", "general.architecture": "qwen3", "adapter.type": "lora"}
    assert fields["adapter.lora.alpha"].contents() == 0.0
    saved = {name: tensor.data for name, tensor in read(tmp_path / "adapter.gguf").items()}
    assert {name: data.shape for name, data in saved.items()} == {
        "blk.0.ffn_down.weight.lora_a": (2, 48),
        "blk.0.ffn_down.weight.lora_b": (32, 2),
        "blk.2.attn_q.weight.lora_a": (3, 32),
        "blk.2.attn_q.weight.lora_b": (64, 3),
    }
    for factors, name in zip(update.weights, ("blk.0.ffn_down.weight", "blk.2.attn_q.weight"), strict=True):
        A, B = factors.to_factors()
        product = torch.from_numpy(saved[f"{name}.lora_b"] @ saved[f"{name}.lora_a"])
        torch.testing.assert_close(product, factors.scale * B @ A)


def test_llamas_queries_and_keys_are_in_the_order_that_llama_cpp_rotates() -> None:
    model = kinds.model("llama")  # heads of 16 rows: 4 of queries, 2 of keys
    for kind, heads in (("q_proj", 4), ("k_proj", 2)):
        rows = torch.arange(heads * 16.0)[:, None]
        # The two rows that one angle turns are 8 apart in transformers and beside each other in llama.cpp.
        expected = [16.0 * head + half * 8 + pair for head in range(heads) for pair in range(8) for half in range(2)]
        assert in_ggufs_order(model, f"model.layers.0.self_attn.{kind}", rows).flatten().tolist() == expected
    rows = torch.arange(32.0)[:, None]
    assert in_ggufs_order(model, "model.layers.0.self_attn.v_proj", rows) is rows
    assert in_ggufs_order(kinds.model("qwen3"), "model.layers.0.self_attn.k_proj", rows) is rows


def gguf(path: Path, model: Any) -> Path:
    """A GGUF file of a model as others write it, with quantized tensors and metadata of all kinds."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_float32("llama.rope.freq_base", 1e5)
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_array("tokenizer.ggml.tokens", ["a", "Ġb", "\n"])
    writer.add_array("tokenizer.ggml.merges", [])
    writer.add_key_value("tokenizer.ggml.token_type", [1, 1, 3], GGUFValueType.ARRAY, GGUFValueType.INT32)
    for module in ("self_attn.q_proj", "mlp.down_proj", "mlp.up_proj"):
        weight = model.get_parameter(f"model.layers.1.{module}.weight").detach()
        name = tensor_name(model, f"model.layers.1.{module}")
        writer.add_tensor(name, np.zeros((len(weight), 34), np.uint8), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.1.attn_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_an_edited_gguf_file_differs_in_the_edited_tensors_alone_and_names_them(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    model = kinds.model("llama").to(dtype)
    base = gguf(tmp_path / "base.gguf", model)
    weights = {name: model.get_parameter(name) for name in ("model.layers.1.self_attn.q_proj.weight",)}
    export_gguf(weights, tmp_path / "edited.gguf", model, GGUFReader(base))
    assert holds_gguf(tmp_path / "edited.gguf", weights, model, GGUFReader(base))
    before, after = read(base), read(tmp_path / "edited.gguf")
    assert list(before) == list(after)
    changed = after.pop("blk.1.attn_q.weight")
    kind = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    assert changed.tensor_type.name == kind
    assert changed.shape.tolist() == [32, 64]
    data = torch.from_numpy(changed.data.copy())
    rows = data.view(dtype) if dtype == torch.bfloat16 else data
    assert torch.equal(rows, in_ggufs_order(model, "q_proj", weights["model.layers.1.self_attn.q_proj.weight"]))
    for name, tensor in after.items():
        assert tensor.tensor_type == before[name].tensor_type
        assert tensor.data.tobytes() == before[name].data.tobytes()
    fields = [
        {name: (field.types, field.contents()) for name, field in GGUFReader(path).fields.items() if "GGUF" not in name}
        for path in (base, tmp_path / "edited.gguf")
    ]
    assert fields[1].pop(EDITED)[1] == ["blk.1.attn_q.weight"]
    assert fields[1] == fields[0]
    more = {"model.layers.1.mlp.up_proj.weight": model.get_parameter("model.layers.1.mlp.up_proj.weight")}
    export_gguf(more, tmp_path / "twice.gguf", model, GGUFReader(tmp_path / "edited.gguf"))
    named = GGUFReader(tmp_path / "twice.gguf").fields[EDITED].contents()
    assert named == ["blk.1.attn_q.weight", "blk.1.ffn_up.weight"]
    with (tmp_path / "edited.gguf").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    assert not holds_gguf(tmp_path / "edited.gguf", weights, model, GGUFReader(base))


def test_what_llama_cpp_does_not_know_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="this is opt"):
        export_gguf_lora(
            delta(kinds.model("opt"), ("model.decoder.layers.0.fc1", 2, 1.0)), tmp_path / "a", kinds.model("opt")
        )
    model = kinds.model("llama")
    model.add_module("extra", nn.Linear(3, 2))
    with pytest.raises(UnsupportedError, match="no name for extra"):
        export_gguf_lora(delta(model, ("extra", 1, 1.0)), tmp_path / "a", model)
    embedding = SparseDelta(
        (layer_factors("model.embed_tokens", model.model.embed_tokens, torch.ones(1, 64), torch.ones(32, 1), 1.0),)
    )
    with pytest.raises(UnsupportedError, match="no Linear"):
        export_gguf_lora(embedding, tmp_path / "a", model)
    base = gguf(tmp_path / "base.gguf", model)
    other = {"model.layers.0.mlp.up_proj.weight": model.get_parameter("model.layers.0.mlp.up_proj.weight")}
    with pytest.raises(ModelError, match=r"has no tensor blk\.0\.ffn_up\.weight"):
        export_gguf(other, tmp_path / "a", model, GGUFReader(base))
    for name in (None, "", "someone/model", str(tmp_path)):
        with pytest.raises(ModelError, match="no GGUF file"):
            require_gguf_base(name)
    assert require_gguf_base(str(base)) == base
    assert sorted(tmp_path.iterdir()) == [base]
