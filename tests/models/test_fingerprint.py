import hashlib

import pytest
import torch
from transformers import AutoModelForCausalLM

from roselora.errors import ModelError
from roselora.models import fingerprint as module
from roselora.models.fingerprint import fingerprint


def linear(dtype=torch.float32):
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).view(2, 3))
        layer.bias.copy_(torch.tensor([0.5, -0.5]))
    return layer.to(dtype)


def test_it_is_the_sha256_of_names_dtypes_shapes_and_bytes():
    expected = hashlib.sha256()
    expected.update(b"weight\0torch.float32\x002,3\0" + torch.arange(6.0).numpy().tobytes())
    expected.update(b"bias\0torch.float32\x002\0" + torch.tensor([0.5, -0.5]).numpy().tobytes())
    assert fingerprint(linear()) == expected.hexdigest()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_one_flipped_bit_changes_it_in_every_dtype(dtype):
    layer = linear(dtype)
    before = fingerprint(layer)
    raw = layer.weight.detach().view(torch.uint8)
    raw[0, 0] ^= 1
    assert fingerprint(layer) != before
    raw[0, 0] ^= 1
    assert fingerprint(layer) == before


def test_negative_zero_is_not_zero():
    layer = linear()
    before = fingerprint(layer)
    with torch.no_grad():
        layer.weight[0, 0] = -0.0
    assert fingerprint(layer) != before


def test_the_same_bytes_under_another_name_dtype_or_shape_are_another_model():
    tensors = {"a": torch.zeros(4), "b": torch.zeros(4)}
    variants = [
        tensors,
        {"a": torch.zeros(4), "c": torch.zeros(4)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.zeros(4)},
        {"a": torch.zeros(2, 2), "b": torch.zeros(4)},
        {"a": torch.zeros(3), "b": torch.zeros(5)},
    ]
    prints = set()
    for variant in variants:
        holder = torch.nn.Module()
        for name, tensor in variant.items():
            holder.register_buffer(name, tensor)
        prints.add(fingerprint(holder))
    assert len(prints) == len(variants)


def test_the_chunk_size_the_layout_and_requires_grad_do_not_matter(monkeypatch):
    layer = linear()
    before = fingerprint(layer)
    layer.weight = torch.nn.Parameter(torch.arange(6.0).view(2, 3).t().contiguous().t(), requires_grad=False)
    assert not layer.weight.is_contiguous()
    assert fingerprint(layer) == before
    monkeypatch.setattr(module, "CHUNK_BYTES", 5)
    assert fingerprint(layer) == before


def test_scalars_and_empty_tensors_are_hashed():
    norm = torch.nn.BatchNorm1d(2)
    before = fingerprint(norm)
    norm.num_batches_tracked += 1
    assert fingerprint(norm) != before
    norm.register_buffer("empty", torch.zeros(0, 3))
    assert fingerprint(norm) != before


def test_tied_embeddings_count_once(tiny_model):
    model = tiny_model()
    names = []
    original = module._update
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_update", lambda digest, tensor: (names.append(tensor.shape), original(digest, tensor)))
        fingerprint(model)
    assert len(names) == len(model.state_dict()) - 1
    assert fingerprint(model) == fingerprint(tiny_model())
    assert fingerprint(model) != fingerprint(tiny_model(seed=1))


def test_saving_and_loading_keeps_it(tiny_model, tiny_model_folder):
    assert fingerprint(AutoModelForCausalLM.from_pretrained(tiny_model_folder)) == fingerprint(tiny_model())


@pytest.mark.cuda
def test_the_device_does_not_matter(tiny_model):
    model = tiny_model()
    before = fingerprint(model)
    assert fingerprint(model.to("cuda")) == before


def test_a_model_without_bytes_is_refused_by_its_tensor():
    with pytest.raises(ModelError, match="weight is on the meta device"):
        fingerprint(torch.nn.Linear(2, 2, device="meta"))
