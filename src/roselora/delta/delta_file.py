"""A SparseDelta as one safetensors file, of which every byte is checked; docs/file-formats.md describes the format.

The file holds the factors, never their product: all values, all indices as gaps (`index_encoding`), and in the header a
table of the weights as JSON. Near the beginning, at a fixed place, stands the SHA-256 of the whole file with these
digits read as zeros, so every flipped bit is noticed. The same delta always gives the same bytes.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

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
_DTYPES = {dtype_name(dtype): dtype for dtype in FLOAT_DTYPES}
_SAFETENSORS_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


class _WeightRow(NamedTuple):
    """One weight in the header's table: a JSON list of these ten."""

    name: str
    d_out: int
    d_in: int
    layer: Any
    base_dtype: str
    value_dtype: str
    rank: int
    kept_in_row: int
    kept_in_column: int
    scale: float


def save(delta: SparseDelta, path: str | os.PathLike[str]) -> None:
    """Write `delta` to `path`, atomically.

    Raises:
        ConfigError: the header would be longer than safetensors reads.
        OSError: the file cannot be written; a file that was there is unchanged.

    Example:
        >>> from roselora.delta.layer_kinds import layer_factors
        >>> A, B = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0], [0.0], [3.0]])
        >>> factors = layer_factors("layer", torch.nn.Linear(2, 3), A, B, scale=0.5)
        >>> save(SparseDelta((factors,), {"prompt": "The capital of France is"}), "edit.safetensors")
        >>> load("edit.safetensors").metadata
        {'prompt': 'The capital of France is'}
    """
    write_atomically(path, encode(delta), follow_link=True)


def load(path: str | os.PathLike[str]) -> SparseDelta:
    """Read a delta that `save` wrote.

    The file's claims are checked before any tensor is made from them, so a hostile file takes no more memory than a
    small multiple of its true size.

    Raises:
        FileFormatError: the file cannot be read, is not a delta, is newer than this version, truncated, altered or
            malformed in any way, or holds NaN or infinity.
    """
    if Path(path).suffix.lower() in PICKLE_SUFFIXES:
        _refuse(path, "may hold a pickle, which can run code when it is read; only safetensors files are read")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror or error}.") from error
    return decode(data, source=str(path))


def encode(delta: SparseDelta) -> bytes:
    """The bytes of the file that `save` writes; raises ConfigError as it does."""
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
            _refuse(source, f"has format version {inner['format_version']!r}; this roselora reads {FORMAT_VERSION}")
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
    """Check the file's start, length and digest, and return its header."""
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


def _row(factors: SparseFactors) -> _WeightRow:
    return _WeightRow(
        factors.name,
        *factors.shape,
        factors.layer,
        dtype_name(factors.base_dtype),
        dtype_name(factors.a_values.dtype),
        factors.rank,
        factors.a_values.shape[1],
        factors.b_values.shape[1],
        float(factors.scale),
    )


def _check_row(given: Any, source: str) -> _WeightRow:
    if not isinstance(given, list) or len(given) != len(_WeightRow._fields):
        _refuse(source, "has a malformed table of weights")
    row = _WeightRow(*given)
    sizes = (row.d_out, row.d_in, row.rank, row.kept_in_row, row.kept_in_column)
    if not all(type(size) is int and 0 < size < 2**63 for size in sizes):
        _refuse(source, f"gives a weight the sizes {sizes}, which must be positive whole numbers")
    if row.kept_in_row > row.d_in or row.kept_in_column > row.d_out:
        _refuse(source, "keeps more entries in a row or column than it has")
    if type(row.name) is not str or type(row.layer) is not str or type(row.scale) is not float:
        _refuse(source, "has a malformed table of weights")
    if row.base_dtype not in _DTYPES or row.value_dtype not in _DTYPES:
        _refuse(source, "names a dtype other than float32, bfloat16 and float16")
    return row


def _check_tensors(outer: dict[str, Any], rows: list[_WeightRow], source: str) -> None:
    """Check that the header declares the tensors that the table needs, with their dtypes and shapes, and no others."""
    counts = {f"values_{dtype}": 0 for dtype in sorted({row.value_dtype for row in rows})}
    for row in rows:
        counts[f"values_{row.value_dtype}"] += row.rank * (row.kept_in_row + row.kept_in_column)
    expected = {name: (_SAFETENSORS_DTYPES[name.removeprefix("values_")], [count]) for name, count in counts.items()}
    expected["base_sha256"] = ("U8", [len(rows), 32])
    if set(outer) != {"__metadata__", "gaps", *expected} or set(outer["__metadata__"]) != {"roselora"}:
        _refuse(source, f"has unknown or missing tensors {sorted(outer)}")
    for name, (dtype, shape) in expected.items():
        if outer[name]["dtype"] != dtype or outer[name]["shape"] != shape:
            _refuse(source, f"has a tensor {name} that is not {dtype} of shape {shape}")
    if any(set(outer[name]) != {"dtype", "shape", "data_offsets"} for name in outer if name != "__metadata__"):
        _refuse(source, "has unknown or missing entries in a tensor's header")
    if outer["gaps"]["dtype"] != "U8" or len(outer["gaps"]["shape"]) != 1:  # decoding checks how many there must be
        _refuse(source, "has a tensor gaps that is not U8 of one dimension")


def _pack(delta: SparseDelta) -> dict[str, Tensor]:
    """The tensors of the file; in each, the weights follow each other, first A and then B."""
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


def _unpack(rows: list[_WeightRow], tensors: dict[str, Tensor]) -> list[SparseFactors]:
    shapes = [(row.rank, kept) for row in rows for kept in (row.kept_in_row, row.kept_in_column)]
    index = iter(decode_gaps(tensors["gaps"].numpy(), shapes))
    taken = dict.fromkeys(tensors, 0)

    def take(row: _WeightRow, kept: int) -> Tensor:
        """The next rank * kept values of the row's dtype, as (rank, kept)."""
        name = f"values_{row.value_dtype}"
        start, size = taken[name], row.rank * kept
        taken[name] += size
        return tensors[name][start : start + size].reshape(row.rank, kept).clone()

    return [
        SparseFactors(
            name=row.name,
            a_values=take(row, row.kept_in_row),
            a_columns=torch.from_numpy(next(index)),
            b_values=take(row, row.kept_in_column),
            b_rows=torch.from_numpy(next(index)),
            scale=row.scale,
            shape=(row.d_out, row.d_in),
            layer=row.layer,
            base_dtype=_DTYPES[row.base_dtype],
            base_sha256=base.tobytes().hex(),
        )
        for row, base in zip(rows, tensors["base_sha256"].numpy(), strict=True)
    ]
