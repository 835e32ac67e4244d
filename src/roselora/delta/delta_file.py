"""A SparseDelta as one safetensors file, of which every byte is checked; see docs/file-formats.md.

The file holds the factors, never their product: all values, then all indices as gaps (`gaps`), and a table of
the weights as JSON in the header. A SHA-256 over the whole file, with its own digits taken as zeros, stands
at a fixed place near the beginning, so that no flipped bit goes unseen. The same delta always gives the same
bytes.
"""

import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from roselora.delta.index_encoding import decode_gaps, encode_gaps
from roselora.delta.sparse_delta import FLOAT_DTYPES, SparseDelta, SparseFactors
from roselora.errors import ConfigError, FileFormatError, NonFiniteError
from roselora.files import PICKLE_SUFFIXES, dtype_name, write_atomically

FORMAT_VERSION = 1
HEADER_CAP = 100_000_000
"""The longest header that safetensors reads, in bytes."""

_START = b'{"__metadata__":{"roselora":"{\\"sha256\\":\\"'
_DIGEST = slice(8 + len(_START), 8 + len(_START) + 64)
_COLUMNS = ("name", "d_out", "d_in", "layer", "base dtype", "value dtype", "rank", "k_A", "k_B", "scale")
_DTYPES = {dtype_name(dtype): dtype for dtype in FLOAT_DTYPES}
_SAFETENSORS_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def save(delta: SparseDelta, path: str | os.PathLike[str]) -> None:
    """Write `delta` to `path`, atomically.

    Raises:
        ConfigError: the header would be longer than safetensors reads.
        OSError: the file cannot be written; what was there before is as it was.
    """
    write_atomically(path, encode(delta), follow_link=True)


def load(path: str | os.PathLike[str]) -> SparseDelta:
    """Read a delta that `save` wrote, all of it or nothing.

    Raises:
        FileFormatError: the file cannot be read, is not ours, is newer than this version, truncated, altered
            or malformed in any way, or holds NaN or infinity. Its claims are checked before anything is made
            of them; no more memory is taken than a small multiple of the file's true size.
    """
    if Path(path).suffix.lower() in PICKLE_SUFFIXES:
        _refuse(path, "may hold a pickle, which can run code when read; only safetensors files are read")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror or error}.") from error
    return decode(data, source=str(path))


def encode(delta: SparseDelta) -> bytes:
    """The bytes of the file that `save` writes."""
    header = {
        "sha256": "0" * 64,
        "format_version": FORMAT_VERSION,
        "weights": [_row(factors) for factors in delta.weights],
        "metadata": delta.metadata,
    }
    text = json.dumps(header, separators=(",", ":"), allow_nan=False)
    data = safetensors.torch.save(_pack(delta), {"roselora": text})
    if int.from_bytes(data[:8], "little") > HEADER_CAP:
        raise ConfigError(f"The delta's metadata is over {HEADER_CAP:,} bytes; store less with it.")
    digest = hashlib.sha256(data).hexdigest().encode()
    return data[: _DIGEST.start] + digest + data[_DIGEST.stop :]


def decode(data: bytes, source: str) -> SparseDelta:
    """The delta in the bytes of a file; `source` names it in errors. Raises as `load` does."""
    header = _check_bytes(data, source)
    try:
        outer = json.loads(header, object_pairs_hook=_unique_keys)
        inner = json.loads(outer["__metadata__"]["roselora"], object_pairs_hook=_unique_keys)
        if inner["format_version"] != FORMAT_VERSION:
            _refuse(
                source,
                f"has format version {inner['format_version']!r}; this roselora reads {FORMAT_VERSION}",
            )
        if set(inner) != {"sha256", "format_version", "weights", "metadata"}:
            _refuse(source, f"has unknown or missing header entries {sorted(inner)}")
        rows = [_check_row(row, source) for row in inner["weights"]]
        _check_tensors(outer, rows, source)
        return SparseDelta(tuple(_unpack(rows, safetensors.torch.load(data))), inner["metadata"])
    except FileFormatError:
        raise
    except (ConfigError, NonFiniteError) as error:
        raise FileFormatError(f"{source} is not a valid delta: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise FileFormatError(f"{source} is not a valid delta file: {error}.") from error


def _refuse(source: str | os.PathLike[str], why: str) -> NoReturn:
    raise FileFormatError(f"{os.fspath(source)} {why}.")


def _check_bytes(data: bytes, source: str) -> bytes:
    """The header of a file that begins as ours do and whose every bit is what was written."""
    length = int.from_bytes(data[:8], "little")
    if not data.startswith(_START, 8):
        _refuse(source, "is not a roselora delta file")
    if length > HEADER_CAP or length > len(data) - 8 or _DIGEST.stop > len(data):
        _refuse(source, "is truncated, or claims an impossible header")
    digest = hashlib.sha256(data[: _DIGEST.start])
    digest.update(b"0" * 64)
    digest.update(memoryview(data)[_DIGEST.stop :])
    if digest.hexdigest().encode() != data[_DIGEST]:
        _refuse(source, "is damaged: its SHA-256 does not match; get the file again")
    return data[8 : 8 + length]


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key occurs twice in the header")
    return result


def _row(factors: SparseFactors) -> list[str | int | float]:
    """One weight's line of the table; its entries are `_COLUMNS`."""
    return [
        factors.name,
        *factors.shape,
        factors.layer,
        dtype_name(factors.base_dtype),
        dtype_name(factors.a_values.dtype),
        factors.rank,
        factors.a_values.shape[1],
        factors.b_values.shape[1],
        float(factors.scale),
    ]


def _check_row(row: Any, source: str) -> dict[str, Any]:
    if not isinstance(row, list) or len(row) != len(_COLUMNS):
        _refuse(source, "has a malformed table of weights")
    weight = dict(zip(_COLUMNS, row, strict=True))
    sizes = [weight[key] for key in ("d_out", "d_in", "rank", "k_A", "k_B")]
    if not all(type(size) is int and 0 < size < 2**63 for size in sizes):
        _refuse(source, f"gives sizes {sizes} for a weight, where positive whole numbers are needed")
    if weight["k_A"] > weight["d_in"] or weight["k_B"] > weight["d_out"]:
        _refuse(source, "keeps more entries in a row or column than it has")
    if type(weight["name"]) is not str or type(weight["layer"]) is not str or type(weight["scale"]) is not float:
        _refuse(source, "has a malformed table of weights")
    if weight["base dtype"] not in _DTYPES or weight["value dtype"] not in _DTYPES:
        _refuse(source, "names a dtype other than float32, bfloat16 and float16")
    return weight


def _check_tensors(outer: dict[str, Any], rows: list[dict[str, Any]], source: str) -> None:
    """Each tensor that the table needs is there in the right dtype and size, and no other."""
    sizes = {f"values_{dtype}": 0 for dtype in sorted({row["value dtype"] for row in rows})}
    for row in rows:
        sizes[f"values_{row['value dtype']}"] += row["rank"] * (row["k_A"] + row["k_B"])
    if set(outer) != {"__metadata__", "base_sha256", "gaps", *sizes} or set(outer["__metadata__"]) != {"roselora"}:
        _refuse(source, f"has unknown or missing tensors {sorted(outer)}")
    for name, size in sizes.items():
        dtype = _SAFETENSORS_DTYPES[name.removeprefix("values_")]
        if outer[name]["dtype"] != dtype or outer[name]["shape"] != [size]:
            _refuse(source, f"has a tensor {name} that is not {size} numbers of type {dtype}")
    if outer["base_sha256"]["dtype"] != "U8" or outer["base_sha256"]["shape"] != [len(rows), 32]:
        _refuse(source, f"has a tensor base_sha256 that is not {len(rows)} rows of 32 bytes")
    if any(set(outer[name]) != {"dtype", "shape", "data_offsets"} for name in outer if name != "__metadata__"):
        _refuse(source, "has unknown or missing entries in a tensor's header")
    if outer["gaps"]["dtype"] != "U8" or len(outer["gaps"]["shape"]) != 1:
        _refuse(source, "has a tensor gaps that is not a row of bytes")


def _pack(delta: SparseDelta) -> dict[str, Tensor]:
    """The tensors of the file: weight by weight A, then B."""
    values: dict[str, list[Tensor]] = {}
    gaps = []
    for factors in delta.weights:
        parts = values.setdefault(f"values_{dtype_name(factors.a_values.dtype)}", [])
        parts += [factors.a_values.reshape(-1), factors.b_values.reshape(-1)]
        gaps += [encode_gaps(factors.a_columns.numpy()), encode_gaps(factors.b_rows.numpy())]
    hashes = b"".join(bytes.fromhex(factors.base_sha256) for factors in delta.weights)
    return {
        "base_sha256": torch.frombuffer(bytearray(hashes), dtype=torch.uint8).reshape(-1, 32),
        "gaps": torch.from_numpy(np.concatenate(gaps)),
        **{name: torch.cat(parts) for name, parts in values.items()},
    }


def _unpack(rows: list[dict[str, Any]], tensors: dict[str, Tensor]) -> list[SparseFactors]:
    shapes = itertools.chain.from_iterable(((row["rank"], row["k_A"]), (row["rank"], row["k_B"])) for row in rows)
    index = iter(decode_gaps(tensors["gaps"].numpy(), list(shapes)))
    taken = dict.fromkeys(tensors, 0)

    def take(row: dict[str, Any], kept: str) -> Tensor:
        name = f"values_{row['value dtype']}"
        start, size = taken[name], row["rank"] * row[kept]
        taken[name] += size
        return tensors[name][start : start + size].reshape(row["rank"], row[kept]).clone()

    return [
        SparseFactors(
            name=row["name"],
            a_values=take(row, "k_A"),
            a_columns=torch.from_numpy(next(index)),
            b_values=take(row, "k_B"),
            b_rows=torch.from_numpy(next(index)),
            scale=row["scale"],
            shape=(row["d_out"], row["d_in"]),
            layer=row["layer"],
            base_dtype=_DTYPES[row["base dtype"]],
            base_sha256=base.tobytes().hex(),
        )
        for row, base in zip(rows, tensors["base_sha256"].numpy(), strict=True)
    ]
