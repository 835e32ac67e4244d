"""The page on file formats: its reader, run as it stands, reads what we write."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from roselora.delta import io
from roselora.delta.sparse_delta import SparseDelta, SparseFactors

PAGE = (Path(__file__).parents[2] / "docs" / "file-formats.md").read_text(encoding="utf-8")


def documented_reader() -> Any:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["read_delta"]


def test_the_documented_reader_reads_our_files(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)

    def sparse(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.2)

    weights = []
    for number, dtype in enumerate([torch.float32, torch.bfloat16, torch.float16, torch.bfloat16]):
        for layer in ("linear", "embedding"):
            A, B = sparse(3, 900).to(dtype), sparse(11, 3).to(dtype)
            weights.append(
                SparseFactors.from_factors(
                    f"w{number}.{layer}", A, B, 1 / 3, layer=layer, base_dtype=dtype, base_sha256="0" * 64
                )
            )
    delta = SparseDelta(tuple(weights), {"prompt": "The capital of"})
    io.save(delta, tmp_path / "edit.safetensors")
    found, metadata = documented_reader()(tmp_path / "edit.safetensors")
    assert metadata == delta.metadata
    assert list(found) == [factors.name for factors in delta.weights]
    for factors in delta.weights:
        A, B, scale, layer = found[factors.name]
        expected_A, expected_B = factors.to_factors()
        assert np.array_equal(A, expected_A.float().numpy())
        assert np.array_equal(B, expected_B.float().numpy())
        assert (scale, layer) == (1 / 3, factors.layer)
    data = bytearray((tmp_path / "edit.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "edit.safetensors").write_bytes(data)
    with pytest.raises(AssertionError, match="damaged"):
        documented_reader()(tmp_path / "edit.safetensors")


def test_the_page_says_what_the_code_does() -> None:
    start = io._START.decode()
    assert f"\n    {start}\n" in PAGE
    assert len(start) == 43
    assert (io._DIGEST.start, io._DIGEST.stop) == (51, 115)
    assert "exactly these 43 characters" in PAGE
    assert "bytes 51 to 114" in PAGE
    assert f"Delta file, format version {io.FORMAT_VERSION}" in PAGE
    assert all(f"values_{dtype}" in PAGE for dtype in io._DTYPES)


def test_the_page_shows_the_stores_schema_as_it_is() -> None:
    from roselora.editing import schema

    section = PAGE.partition("## Edit store")[2]
    assert f"0x{schema.APPLICATION_ID:X}" in section
    assert section.startswith(f", schema {len(schema.MIGRATIONS)}\n")
    documented = " ".join(section.partition("```sql")[2].partition("```")[0].split())
    assert documented == " ".join(" ".join(schema.MIGRATIONS).split())
