"""Patch files: what a reader that knows nothing of factors finds in them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError
from roselora.files import sha256_tensor
from roselora.serving import weight_patch
from roselora.serving.weight_patch import export_patches


def layer(dtype: torch.dtype = torch.bfloat16) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(9, 7, bias=False, dtype=dtype)


def delta(seed: int, model: nn.Linear) -> SparseDelta:
    generator = torch.Generator().manual_seed(seed)

    def sparse(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.4)

    weight = model.weight
    made = SparseFactors.from_factors(
        "weight", sparse(3, 9), sparse(7, 3), 0.5, base_dtype=weight.dtype, base_sha256=sha256_tensor(weight)
    )
    return SparseDelta((made,))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["roselora_patches"])
    return load_file(path), header


def test_a_patched_weight_is_the_overlays_bit_for_bit(tmp_path: Path) -> None:
    model = layer()
    one = delta(1, model)
    export_patches([one], tmp_path / "patch.safetensors")
    tensors, header = read(tmp_path / "patch.safetensors")
    assert set(tensors) == {"weight.index", "weight.value"}
    assert (tensors["weight.index"].dtype, tensors["weight.value"].dtype) == (torch.int32, torch.float32)
    sha = sha256_tensor(model.weight)
    table = {"weight": {"shape": [7, 9], "dtype": "bfloat16", "base_sha256": sha}}
    assert header == {"format_version": 1, "weights": table}
    patched = model.weight.detach().clone().view(-1)
    place = tensors["weight.index"].long()
    patched[place] = (patched[place].float() + tensors["weight.value"]).bfloat16()
    Overlay(model).apply("one", one)
    assert torch.equal(patched.view(7, 9), model.weight)


def test_several_deltas_are_one_sum_in_their_order(tmp_path: Path) -> None:
    model = layer(torch.float32)
    parts = [delta(seed, model) for seed in range(4)]
    export_patches(parts, tmp_path / "patch.safetensors")
    tensors, _ = read(tmp_path / "patch.safetensors")
    expected = torch.zeros(63)
    for part in parts:
        index, value = part.weights[0].expand()
        expected[index] += value
    index = tensors["weight.index"].long()
    assert torch.equal(index, index.unique())
    found = torch.zeros(63)
    found[index] = tensors["weight.value"]
    assert torch.equal(found, expected)


def test_a_weight_of_more_than_31_bits_has_64_bit_indices(tmp_path: Path) -> None:
    wide = SparseFactors(
        "w", torch.ones(1, 1), torch.tensor([[2**20]]), torch.ones(1, 1), torch.tensor([[2**20]]), 1.0,
        (2**21, 2**21), "linear", torch.float16, "0" * 64,
    )  # fmt: skip
    export_patches([SparseDelta((wide,))], tmp_path / "patch.safetensors")
    tensors, _ = read(tmp_path / "patch.safetensors")
    assert tensors["w.index"].dtype == torch.int64
    assert tensors["w.index"].tolist() == [2**41 + 2**20]


def test_deltas_of_different_bases_and_none_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="different bases"):
        export_patches([delta(1, layer()), delta(1, layer(torch.float32))], tmp_path / "patch.safetensors")
    with pytest.raises(ConfigError, match="no deltas"):
        export_patches([], tmp_path / "patch.safetensors")
    assert list(tmp_path.iterdir()) == []
    assert "NAME.index" in (weight_patch.__doc__ or "")
