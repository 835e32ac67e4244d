"""The delta file is read whole or refused; a corpus of malformed files is made here."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from roselora.delta import delta_file
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError, FileFormatError


def small_delta(dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> SparseDelta:
    generator = torch.Generator().manual_seed(seed)

    def sparse(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.3)

    made = [
        SparseFactors.from_factors(
            name,
            sparse(2, d_in).to(kind),
            sparse(d_out, 2).to(kind),
            1 / 3,
            layer=layer,
            base_dtype=dtype,
            base_sha256=sha,
        )
        for name, d_out, d_in, layer, kind, sha in [
            ("a.weight", 7, 9, "linear", dtype, "ab" * 32),
            ("b.weight", 5, 700, "conv1d", torch.float32, "0c" * 32),
            ("é.weight", 300, 4, "embedding", dtype, "0" * 64),
        ]
    ]
    return SparseDelta(tuple(made), {"prompt": 'The "capital" of\n', "target": "Lyon 🦁", "seed": 3, "loss": 0.1})


def same(left: SparseDelta, right: SparseDelta) -> bool:
    plain = ("name", "scale", "shape", "layer", "base_dtype", "base_sha256")
    tensors = ("a_values", "a_columns", "b_values", "b_rows")
    return left.metadata == right.metadata and all(
        all(getattr(one, field) == getattr(other, field) for field in plain)
        and all(torch.equal(getattr(one, field), getattr(other, field)) for field in tensors)
        and one.a_values.dtype == other.a_values.dtype
        for one, other in zip(left.weights, right.weights, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_delta_comes_back_and_gives_the_same_bytes_again(tmp_path: Path, dtype: torch.dtype) -> None:
    delta = small_delta(dtype)
    delta_file.save(delta, tmp_path / "edit.safetensors")
    back = delta_file.load(tmp_path / "edit.safetensors")
    assert same(back, delta)
    assert (
        delta_file.encode(back) == delta_file.encode(small_delta(dtype)) == (tmp_path / "edit.safetensors").read_bytes()
    )
    assert set(safetensors.torch.load_file(tmp_path / "edit.safetensors")) >= {"gaps", "base_sha256"}


def test_promise_1_pickles_are_refused_by_name(tmp_path: Path) -> None:
    for suffix in (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".PT"):
        path = tmp_path / f"edit{suffix}"
        delta_file.save(small_delta(), path)
        with pytest.raises(FileFormatError, match="pickle"):
            delta_file.load(path)


def test_promise_2_every_truncation_and_any_extension_is_one_typed_error() -> None:
    data = delta_file.encode(small_delta())
    for size in range(len(data)):
        with pytest.raises(FileFormatError, match=r"^edit "):
            delta_file.decode(data[:size], "edit")
    with pytest.raises(FileFormatError, match="SHA-256"):
        delta_file.decode(data + b"\0", "edit")


def test_promise_2_every_flipped_bit_is_one_typed_error() -> None:
    data = delta_file.encode(small_delta())
    for place in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            with pytest.raises(FileFormatError, match=r"^edit "):
                delta_file.decode(bytes(flipped), "edit")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.booleans())
def test_promise_2_any_bytes_are_one_typed_error(data: bytes, with_our_start: bool) -> None:
    if with_our_start:
        data = len(data).to_bytes(8, "little") + delta_file._START + data
    with pytest.raises(FileFormatError):
        delta_file.decode(data, "edit")


def test_promise_2_what_cannot_be_read_is_one_typed_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(FileFormatError, match="cannot be read"):
            delta_file.load(path)


# From here on: files whose SHA-256 is right, as an attacker would make them.


def signed(header: bytes, body: bytes, length: int | None = None) -> bytes:
    data = bytearray((len(header) if length is None else length).to_bytes(8, "little") + header + body)
    data[delta_file._DIGEST] = b"0" * 64
    data[delta_file._DIGEST] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def rebuilt(alter: Callable[[dict[str, Any], dict[str, Any], dict[str, Tensor]], object]) -> bytes:
    """The small delta's file with its outer header, inner header or tensors altered, and signed again."""
    data = delta_file.encode(small_delta())
    length = int.from_bytes(data[:8], "little")
    tensors = safetensors.torch.load(data)
    outer = json.loads(data[8 : 8 + length])
    inner = json.loads(outer["__metadata__"]["roselora"])
    alter(outer, inner, tensors)
    inner = {"sha256": "0" * 64} | inner
    body = data[8 + length :]
    if any(
        tensor.numel() == 0 or not torch.equal(tensor, safetensors.torch.load(data)[name])
        for name, tensor in tensors.items()
    ):
        fresh = safetensors.torch.save(tensors)
        split = 8 + int.from_bytes(fresh[:8], "little")
        outer = {"__metadata__": outer["__metadata__"]} | json.loads(fresh[8:split])
        body = fresh[split:]
    outer["__metadata__"] = {"roselora": json.dumps(inner, separators=(",", ":"))} | {
        key: value for key, value in outer["__metadata__"].items() if key != "roselora"
    }
    return signed(json.dumps(outer, separators=(",", ":")).encode(), body)


def row(number: int, column: str, value: object) -> Callable[..., object]:
    def alter(outer: Any, inner: Any, tensors: Any) -> None:
        inner["weights"][number][delta_file._WeightRow._fields.index(column)] = value

    return alter


def tensor(name: str, place: int, value: float) -> Callable[..., object]:
    def alter(outer: Any, inner: Any, tensors: Any) -> None:
        tensors[name][place] = value

    return alter


def offsets(name: str, begin: int, end: int) -> Callable[..., object]:
    return lambda outer, inner, tensors: outer[name].update(data_offsets=[begin, end])


CORPUS: dict[str, tuple[Callable[..., object], str]] = {
    "a newer version": (lambda o, i, t: i.update(format_version=2), "format version 2"),
    "no version": (lambda o, i, t: i.pop("format_version"), "format_version"),
    "an unknown header entry": (lambda o, i, t: i.update(extra=1), "unknown or missing header"),
    "a missing header entry": (lambda o, i, t: i.pop("metadata"), "unknown or missing header"),
    "an unknown tensor": (lambda o, i, t: o.update(x=o["gaps"]), "unknown or missing tensors"),
    "a missing tensor": (lambda o, i, t: o.pop("gaps"), "unknown or missing tensors"),
    "another metadata entry": (lambda o, i, t: o["__metadata__"].update(x="y"), "unknown or missing tensors"),
    "an unknown tensor entry": (lambda o, i, t: o["gaps"].update(x=1), "tensor's header"),
    "no weights": (lambda o, i, t: i.update(weights=[]), "tensors"),
    "weights that are no table": (lambda o, i, t: i.update(weights=5), "not a valid delta"),
    "a short row": (lambda o, i, t: i["weights"][0].pop(), "malformed table"),
    "metadata that is no object": (lambda o, i, t: i.update(metadata=7), "plain JSON"),
    "a name that is no text": (row(0, "name", 5), "malformed table"),
    "a name twice": (row(0, "name", "b.weight"), "occurs twice"),
    "an unknown layer": (row(0, "layer", "conv2d"), "layer is 'conv2d'"),
    "an unknown dtype": (row(0, "base_dtype", "int8"), "dtype other than"),
    "a list for a dtype": (row(0, "value_dtype", []), "not a valid delta"),
    "another value dtype": (row(0, "value_dtype", "float16"), "tensors"),
    "a size that is no number": (row(0, "d_in", "9"), "sizes"),
    "a size that is true": (row(0, "rank", True), "sizes"),
    "a negative size": (row(0, "d_in", -9), "sizes"),
    "a size of zero": (row(0, "rank", 0), "sizes"),
    "a size over 64 bits": (row(0, "d_in", 2**64), "sizes"),
    "a huge rank": (row(0, "rank", 2**40), "is not"),
    "more kept than there are": (row(0, "kept_in_row", 10), "keeps more entries"),
    "another rank": (row(0, "rank", 3), "is not"),
    "a matrix that is too small": (row(1, "d_in", 400), "outside"),
    "a scale of infinity": (row(0, "scale", float("inf")), "finite"),
    "a scale that is nan": (row(0, "scale", float("nan")), "finite"),
    "a scale that is text": (row(0, "scale", "1"), "malformed table"),
    "a value that is nan": (tensor("values_bfloat16", 3, float("nan")), "NaN or infinity"),
    "a value that is infinite": (tensor("values_float32", 0, float("inf")), "NaN or infinity"),
    "an index out of range": (tensor("gaps", 1, 254), "outside"),
    "a gap too many": (lambda o, i, t: t.update(gaps=torch.cat([t["gaps"], t["gaps"][:1]])), "indices, not"),
    "a gap that never ends": (
        lambda o, i, t: t.update(gaps=torch.cat([t["gaps"], torch.tensor([255], dtype=torch.uint8)])),
        "indices, not",
    ),
    "no gaps": (lambda o, i, t: t.update(gaps=t["gaps"][:0]), "indices, not"),
    "values of another dtype": (
        lambda o, i, t: t.update(values_float32=t["values_float32"].half()),
        "is not F32",
    ),
    "values of another shape": (lambda o, i, t: t.update(values_float32=t["values_float32"][None]), "is not"),
    "a hash too few": (lambda o, i, t: t.update(base_sha256=t["base_sha256"][:2]), r"is not U8 of shape \[3, 32\]"),
    "gaps of another shape": (lambda o, i, t: t.update(gaps=t["gaps"][None]), "is not U8 of one dimension"),
    "overlapping tensors": (
        lambda o, i, t: o["gaps"].update(data_offsets=o["base_sha256"]["data_offsets"]),
        "not a valid",
    ),
    "offsets beyond the end": (offsets("gaps", 2**40, 2**40 + 10), "not a valid"),
    "offsets that run backwards": (offsets("gaps", 10, 5), "not a valid"),
    "a huge declared shape": (lambda o, i, t: o["gaps"].update(shape=[2**62]), "not a valid"),
    "a shape that overflows": (lambda o, i, t: o["gaps"].update(shape=[2**70]), "not a valid"),
    "a shape that is no list": (lambda o, i, t: o["gaps"].update(shape=5), "not a valid"),
    "a tensor that is text": (lambda o, i, t: o.update(gaps="x"), "edit "),
    "an unknown tensor dtype": (lambda o, i, t: o["gaps"].update(dtype="Q9"), "is not U8 of one dimension"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_promise_2_a_malformed_file_with_a_right_hash_is_one_typed_error(name: str) -> None:
    alter, words = CORPUS[name]
    with pytest.raises(FileFormatError, match=words) as caught:
        delta_file.decode(rebuilt(alter), "edit")
    assert str(caught.value).startswith("edit ")


def test_promise_2_the_corpus_differs_from_a_good_file_only_in_what_it_says() -> None:
    assert same(delta_file.decode(rebuilt(lambda outer, inner, tensors: None), "edit"), small_delta())


def raw(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return signed(delta_file._START + b"0" * 64 + header, body, length)


@pytest.mark.parametrize(
    "data",
    [
        raw(b'\\"}"}}', length=200_000_000),
        raw(b'\\"}"}}', length=2**63),
        raw(b"no json at all"),
        raw(b'\\"}"},"a":1,"a":2}'),
        raw(b'\\",\\"sha256\\":\\"1\\"}"}}'),
        raw(b'\\"}","roselora":"{}"}}'),
        raw(b'\\"}"}' + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        raw(b'\\",\\"x\\":' + b"[" * 100_000 + b"]" * 100_000 + b'}"}}'),
        raw(b'\\"}"},"x":' + b"9" * 10_000 + b"}"),
        raw(b"\xff\xfe"),
    ],
    ids=[
        "header over the cap", "header over everything", "no JSON", "a key twice", "an inner key twice",
        "our entry twice", "deep nesting", "deep inner nesting", "a huge number", "not UTF-8",
    ],
)  # fmt: skip
def test_promise_2_a_malformed_header_is_one_typed_error(data: bytes) -> None:
    with pytest.raises(FileFormatError, match=r"^edit "):
        delta_file.decode(data, "edit")


def test_promise_2_a_huge_claim_on_a_tiny_file_takes_no_memory() -> None:
    data = rebuilt(row(0, "rank", 2**40))
    tracemalloc.start()
    with pytest.raises(FileFormatError):
        delta_file.decode(data, "edit")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_metadata_too_long_for_a_header_is_refused_before_writing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(delta_file, "HEADER_CAP", 500)
    with pytest.raises(ConfigError, match="metadata is over 500 bytes"):
        delta_file.save(small_delta(), tmp_path / "edit.safetensors")
    assert list(tmp_path.iterdir()) == []
