"""Import and export of LoRA adapters, compared with stock PEFT."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import ConfigError, FileFormatError, NonFiniteError, UnsupportedError
from roselora.serving.lora_folder import export_lora, import_lora


class Tiny(nn.Module):
    """One layer of each kind that LoRA may sit on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 6)
        self.linear = nn.Linear(6, 8)
        self.conv = Conv1D(5, 8)
        nn.init.normal_(self.conv.weight)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.tanh(self.linear(self.embedding(tokens))))


TOKENS = torch.tensor([[1, 2, 3, 10, 0]])
ALL = ["embedding", "linear", "conv"]


def adapter(folder: Path, zeros: bool = True, **options: Any) -> PeftModel:
    settings = {"r": 2, "lora_alpha": 3, "target_modules": ALL, "init_lora_weights": True} | options
    model = get_peft_model(Tiny(), LoraConfig(**settings))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape))
                if zeros:
                    parameter.mul_(torch.rand(parameter.shape) < 0.5)
    model.save_pretrained(str(folder))
    return model.eval()


OPTIONS = [
    {},
    {"use_rslora": True},
    {"rank_pattern": {"linear": 3}, "alpha_pattern": {"conv": 7}},
    {"target_modules": ["conv"], "fan_in_fan_out": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_imported_adapter_gives_the_models_outputs(tmp_path: Path, options: dict[str, Any]) -> None:
    with_adapter = adapter(tmp_path, **options)
    model = Tiny()
    Overlay(model).apply("adapter", import_lora(tmp_path, model))
    torch.testing.assert_close(model(TOKENS), with_adapter(TOKENS), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(TOKENS), Tiny()(TOKENS), atol=1e-2)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_promise_11_an_exported_delta_is_the_same_in_stock_peft(tmp_path: Path, options: dict[str, Any]) -> None:
    with_adapter = adapter(tmp_path / "in", **options)
    delta = import_lora(tmp_path / "in", Tiny())
    export_lora(delta, tmp_path / "out")
    loaded = PeftModel.from_pretrained(Tiny(), str(tmp_path / "out")).eval()
    torch.testing.assert_close(loaded(TOKENS), with_adapter(TOKENS), rtol=1e-5, atol=1e-5)
    again = import_lora(tmp_path / "out", Tiny())
    for one, other in zip(delta.weights, again.weights, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.expand(), other.expand(), strict=True))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_exported_adapter_has_one_rank_and_one_whole_alpha_whatever_program_divides_them(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with_adapter = adapter(tmp_path / "in", **options)
    export_lora(import_lora(tmp_path / "in", Tiny()), tmp_path / "out", base="owner/model", task_type="CAUSAL_LM")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["lora_alpha"] == config["r"] == (3 if "rank_pattern" in options else 2)
    assert isinstance(config["lora_alpha"], int)
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    assert (config["base_model_name_or_path"], config["task_type"]) == ("owner/model", "CAUSAL_LM")
    tensors = safetensors.torch.load_file(tmp_path / "out" / "adapter_model.safetensors")
    model = Tiny()
    for module in config["target_modules"]:
        stem, suffix = f"base_model.model.{module}.lora_", ".weight"
        if module == "embedding":
            stem, suffix = f"{stem}embedding_", ""
        A, B = tensors[f"{stem}A{suffix}"], tensors[f"{stem}B{suffix}"]
        assert len(A) == B.shape[1] == config["r"]
        weight = model.get_parameter(f"{module}.weight")
        update = config["lora_alpha"] / len(A) * (B @ A)  # as a program does that knows the tensor's own rank
        with torch.no_grad():
            weight += update if module == "linear" else update.T
    torch.testing.assert_close(model(TOKENS), with_adapter(TOKENS), rtol=1e-5, atol=1e-5)


def test_a_scale_that_no_lora_factor_can_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    adapter(tmp_path)
    factors = import_lora(tmp_path, Tiny()).weights[0]
    huge = dataclasses.replace(factors, scale=3e38, b_values=factors.b_values * 1e5)
    with pytest.raises(NonFiniteError, match=r"conv\.weight: B times its scale 3e\+38"):
        export_lora(SparseDelta((huge,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dense_adapter_is_imported_whole_and_taken_back_exactly(tmp_path: Path) -> None:
    adapter(tmp_path, zeros=False)
    model = Tiny()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    live = Overlay(model)
    live.apply("adapter", import_lora(tmp_path, model))
    live.remove("adapter")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"lora_bias": True, "target_modules": ["linear"]},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"modules_to_save": ["conv"], "target_modules": ["linear"]},
        {"init_lora_weights": "pissa", "target_modules": ["linear"]},
        {"init_lora_weights": "olora", "target_modules": ["linear"]},
    ],
    ids=str,
)
def test_what_is_not_a_plain_lora_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    adapter(tmp_path, **options)
    with pytest.raises(UnsupportedError, match=next(iter(options))):
        import_lora(tmp_path, Tiny())


def test_promise_1_an_adapter_in_a_pickle_is_refused(tmp_path: Path) -> None:
    adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(FileFormatError, match="pickle"):
        import_lora(tmp_path, Tiny())


def test_promise_2_a_damaged_adapter_folder_is_one_typed_error(tmp_path: Path) -> None:
    adapter(tmp_path)
    weights, config = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    good_weights, good_config = weights.read_bytes(), config.read_bytes()

    def refused(words: str, kind: type[Exception] = FileFormatError) -> None:
        with pytest.raises(kind, match=words):
            import_lora(tmp_path, Tiny())
        weights.write_bytes(good_weights)
        config.write_bytes(good_config)

    def change(**fields: Any) -> None:
        config.write_text(json.dumps(json.loads(good_config) | fields))

    weights.write_bytes(good_weights[:-1])
    refused("not a safetensors file")
    weights.unlink()
    refused("not a safetensors file")
    for text in ("", "[]", "{}", "[" * 100_000):
        config.write_text(text)
        refused("not the config of a PEFT adapter")
    change(peft_type="LOHA")
    refused("LOHA", UnsupportedError)
    change(r=3)
    refused("has rank 2")
    change(lora_alpha="x")
    refused("alpha='x'")
    change(rank_pattern=[1])
    refused("not a table")
    change(rank_pattern={"(": 1})
    refused("pattern that cannot be used")
    tensors = safetensors.torch.load(good_weights)
    key = next(iter(tensors))
    weights.write_bytes(safetensors.torch.save({name: tensors[name] for name in tensors if name != key}))
    refused("only one of A and B")
    weights.write_bytes(safetensors.torch.save(tensors | {"extra": tensors[key].clone()}))
    refused("holds extra", UnsupportedError)


def test_an_adapter_for_another_model_is_refused(tmp_path: Path) -> None:
    adapter(tmp_path)
    other = Tiny()
    other.linear = nn.Linear(6, 9)
    with pytest.raises(ConfigError, match=r"linear is \(9, 6\), but the factors are for \(8, 6\)"):
        import_lora(tmp_path, other)
    other.linear = nn.Bilinear(2, 2, 2)
    with pytest.raises(UnsupportedError, match="linear is a Bilinear"):
        import_lora(tmp_path, other)
    del other.linear
    with pytest.raises(ConfigError, match="no layer linear"):
        import_lora(tmp_path, other)


def test_a_weight_that_is_not_a_layers_is_not_exported(tmp_path: Path) -> None:
    adapter(tmp_path)
    factors = import_lora(tmp_path, Tiny()).weights[0]
    object.__setattr__(factors, "name", "table")
    with pytest.raises(ConfigError, match="table is not a layer's weight"):
        export_lora(SparseDelta((factors,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_a_weight_that_has_two_names_is_refused_for_a_delta_would_move_both(tmp_path: Path) -> None:
    model = get_peft_model(TiedTiny(), LoraConfig(r=2, target_modules=["embedding"]))
    model.save_pretrained(str(tmp_path))
    with pytest.raises(UnsupportedError, match=r"embedding.weight and head.weight are one weight"):
        import_lora(tmp_path, TiedTiny())


class TiedTiny(nn.Module):
    """An embedding that is the head too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight
