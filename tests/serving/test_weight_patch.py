"""Patch files: exact in every dtype, idempotent, undoable, refused where they do not fit, and version 1 is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError, FileFormatError, WrongBaseError
from roselora.files import sha256_tensor
from roselora.serving.applied_patch import apply_patch
from roselora.serving.weight_patch import export_patch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


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


def header(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["roselora_patches"])
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_patch_of_overlapping_deltas_is_exact_idempotent_and_undoable(tmp_path: Path, dtype: torch.dtype) -> None:
    model, base = layer(dtype), layer(dtype).weight.detach()
    overlay = Overlay(model)
    for seed in range(4):
        overlay.apply(str(seed), delta(seed, layer(dtype)))
    path = tmp_path / "patch.safetensors"
    export_patch(overlay.changed(), path)
    tensors = load_file(path)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "weight.index": torch.int32,
        "weight.value": dtype,
        "weight.old_value": dtype,
    }
    row = {"shape": [7, 9], "dtype": str(dtype)[6:], "base_sha256": sha256_tensor(base)}
    assert header(path) == {"format_version": 2, "weights": {"weight": row}}
    index = tensors["weight.index"].long()
    assert index.tolist() == (model.weight != base).flatten().nonzero().flatten().tolist()
    weight = base.clone()
    for _ in range(2):
        apply_patch(path, {"weight": weight})
        assert torch.equal(weight, model.weight)
    for _ in range(2):
        apply_patch(path, {"weight": weight}, undo=True)
        assert torch.equal(weight, base)
    weight.view(-1)[index[:2]] = tensors["weight.value"][:2]  # a program that was stopped halfway
    apply_patch(path, {"weight": weight})
    assert torch.equal(weight, model.weight)


def test_a_sign_of_zero_is_a_change_and_an_equal_weight_is_left_out(tmp_path: Path) -> None:
    changed = [
        ("b", torch.zeros(2), torch.tensor([0.0, -0.0])),
        ("a", torch.ones(3), torch.ones(3)),
    ]
    export_patch(changed, tmp_path / "patch.safetensors")
    assert list(header(tmp_path / "patch.safetensors")["weights"]) == ["b"]
    assert load_file(tmp_path / "patch.safetensors")["b.index"].tolist() == [1]
    weight = torch.zeros(2)
    apply_patch(tmp_path / "patch.safetensors", {"a": torch.ones(3), "b": weight})
    assert weight.signbit().tolist() == [False, True]


def version_1(path: Path, weight: Tensor, **other: Any) -> None:
    """A patch as version 1 had it: it adds 0.1 to two entries."""
    row = {"shape": list(weight.shape), "dtype": str(weight.dtype)[6:], "base_sha256": sha256_tensor(weight)}
    table = {"format_version": 1, "weights": {"weight": {**row, **other}}}
    tensors = {"weight.index": torch.tensor([2, 60], dtype=torch.int32), "weight.value": torch.tensor([0.1, 0.1])}
    save_file(tensors, path, {"roselora_patches": json.dumps(table)})


def test_version_1_is_added_to_its_own_base_alone(tmp_path: Path) -> None:
    weight = layer().weight.detach()
    path = tmp_path / "patch.safetensors"
    version_1(path, weight)
    expected = weight.clone()
    for place in (2, 60):
        expected.view(-1)[place] = (weight.view(-1)[place].float() + 0.1).bfloat16()
    patched = weight.clone()
    apply_patch(path, {"weight": patched})
    assert torch.equal(patched, expected)
    with pytest.raises(WrongBaseError, match="not the weight"):
        apply_patch(path, {"weight": patched})  # a second time
    with pytest.raises(ConfigError, match="no old values"):
        apply_patch(path, {"weight": patched}, undo=True)
    assert torch.equal(patched, expected)


def moved(weight: Tensor) -> dict[str, Tensor]:
    return {"weight": weight + 1}


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (lambda weight: {}, ConfigError, "no weight 'weight'"),
        (lambda weight: {"weight": weight.float()}, ConfigError, "float32.*bfloat16"),
        (lambda weight: {"weight": weight[:6]}, ConfigError, r"6, 9.*7, 9"),
        (lambda weight: {"weight": weight.to("meta")}, ConfigError, "not a tensor that can be written to"),
        (lambda weight: {"weight": weight.float().numpy()}, ConfigError, "not a tensor that can be written to"),
        (moved, WrongBaseError, "weight is not the weight"),
    ],
)
def test_a_patch_of_another_model_changes_nothing(
    tmp_path: Path, weights: Callable[[Tensor], dict[str, Tensor]], error: type[Exception], message: str
) -> None:
    model = layer()
    base = model.weight.detach().clone()
    overlay = Overlay(model)
    overlay.apply("one", delta(1, model))
    first = torch.zeros(2)
    changed = [("first", first, torch.ones(2)), *overlay.changed()]  # the other weight would be written before it
    export_patch(changed, tmp_path / "patch.safetensors")
    given = {"first": first, **weights(base)}
    before = {
        name: weight.clone() for name, weight in given.items() if isinstance(weight, Tensor) and not weight.is_meta
    }
    with pytest.raises(error, match=message):
        apply_patch(tmp_path / "patch.safetensors", given)
    assert all(torch.equal(given[name], weight) for name, weight in before.items())


DAMAGE: dict[str, dict[str, Tensor]] = {
    "descending": {"w.index": torch.tensor([3, 1], dtype=torch.int32)},
    "negative": {"w.index": torch.tensor([-1, 1], dtype=torch.int32)},
    "outside": {"w.index": torch.tensor([1, 4], dtype=torch.int32)},
    "of fractions": {"w.index": torch.tensor([1.9, 3.2])},
    "of truth values": {"w.index": torch.tensor([False, True])},
    "of two dimensions": {"w.index": torch.tensor([[1, 3]], dtype=torch.int32)},
    "of another length": {"w.value": torch.ones(3)},
    "of another dtype": {"w.old_value": torch.zeros(2, dtype=torch.float16)},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_patch_is_refused(tmp_path: Path, damage: dict[str, Tensor]) -> None:
    path = tmp_path / "patch.safetensors"
    weight = torch.zeros(2, 2)
    export_patch([("w", weight, torch.tensor([[0.0, 1], [0, 1]]))], path)
    save_file({**load_file(path), **damage}, path, {"roselora_patches": json.dumps(header(path))})
    with pytest.raises(FileFormatError, match="is damaged"):
        apply_patch(path, {"w": weight})
    assert not weight.any()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format_version": 2}', '{"format_version": 2, "weights": {"w": 3}}', "[" * 100_000]
)
def test_what_is_not_a_patch_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "patch.safetensors"
    save_file({"w.index": torch.zeros(1)}, path, {"roselora_patches": text})
    with pytest.raises(FileFormatError, match="not a patch file") as caught:
        apply_patch(path, {"w": torch.zeros(2)})
    assert "\n" not in str(caught.value)
    for content in (b"", b"\x80\x04junk"):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="not a patch file"):
            apply_patch(path, {})
    with pytest.raises(FileFormatError, match="No such file"):
        apply_patch(tmp_path / "missing", {})


def test_a_patch_of_a_later_version_is_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "patch", {"roselora_patches": '{"format_version": 3, "weights": {}}'})
    with pytest.raises(FileFormatError, match="version 3; this roselora reads 1 and 2"):
        apply_patch(tmp_path / "patch", {})
