"""What is kept is given back as it was, or not at all."""

from importlib import metadata

import pytest
import torch
from safetensors.torch import save_file

from roselora.models.tensor_cache import cache_file, load_cached, save_cached

CPU = torch.device("cpu")
TENSORS = {"second": torch.arange(9.0).reshape(3, 3), "mean": torch.ones(3)}
SHAPES = {"second": (3, 3), "mean": (3,)}


def test_what_was_kept_is_given_back(tmp_path):
    save_cached(tmp_path / "a" / "kept", TENSORS)
    found = load_cached(tmp_path / "a" / "kept", SHAPES)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    assert load_cached(tmp_path / "none", SHAPES) is None
    assert load_cached(tmp_path, SHAPES) is None


def test_a_file_with_any_one_bit_flipped_is_made_anew(tmp_path):
    place = tmp_path / "kept"
    save_cached(place, TENSORS)
    whole = place.read_bytes()
    for position in range(8, len(whole)):
        place.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        found = load_cached(place, SHAPES)
        same = found and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
        assert found is None or same, position  # a space of the header may become another character


@pytest.mark.parametrize(
    ("tensors", "shapes"),
    [
        (TENSORS, SHAPES | {"mean": (4,)}),
        (TENSORS, SHAPES | {"importance": (5,)}),
        (TENSORS, {"mean": (3,)}),
        (TENSORS | {"mean": torch.tensor([1.0, torch.nan, 1.0])}, SHAPES),
        (TENSORS | {"mean": torch.tensor([1.0, torch.inf, 1.0])}, SHAPES),
    ],
)
def test_what_does_not_fit_or_is_not_finite_is_made_anew(tmp_path, tensors, shapes):
    save_cached(tmp_path / "kept", tensors)
    assert load_cached(tmp_path / "kept", shapes) is None


def test_a_file_without_a_hash_as_earlier_versions_wrote_it_is_made_anew(tmp_path):
    save_file(TENSORS, tmp_path / "kept")
    assert load_cached(tmp_path / "kept", SHAPES) is None


def test_another_device_and_other_versions_have_another_file(tmp_path, monkeypatch):
    about = {"model": "ab"}
    files = {cache_file(tmp_path, "made", about, torch.device(kind)) for kind in ("cpu", "cuda", "cuda:1", "mps")}
    assert len(files) == 3
    assert cache_file(tmp_path, "made", about, CPU) in files
    for name in ("roselora", "torch", "transformers"):
        monkeypatch.setattr(metadata, "version", lambda of, name=name: "next" if of == name else "now")
        files.add(cache_file(tmp_path, "made", about, CPU))
    assert len(files) == 6
