"""The page on file formats: its readers, run as printed, read what we write."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from roselora.delta import delta_file
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing.request import EditRequest
from roselora.editing.store import schema
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore
from roselora.errors import StoreError

PAGE = (Path(__file__).parents[2] / "docs" / "file-formats.md").read_text(encoding="utf-8")


def documented(reader: str) -> Any:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(code, names)
    return names[reader]


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
    delta_file.save(delta, tmp_path / "edit.safetensors")
    found, metadata = documented("read_delta")(tmp_path / "edit.safetensors")
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
        documented("read_delta")(tmp_path / "edit.safetensors")


def test_the_page_says_what_the_code_does() -> None:
    start = delta_file._START.decode()
    assert f"\n    {start}\n" in PAGE
    assert len(start) == 43
    assert (delta_file._DIGEST.start, delta_file._DIGEST.stop) == (51, 115)
    assert "exactly these 43 characters" in PAGE
    assert "bytes 51 to 114" in PAGE
    assert f"Delta file, format version {delta_file.FORMAT_VERSION}" in PAGE
    assert all(f"values_{dtype}" in PAGE for dtype in delta_file._DTYPES)


def test_the_page_shows_the_stores_schema_as_it_is() -> None:
    section = PAGE.partition("## Edit store")[2]
    assert f"0x{schema.APPLICATION_ID:X}" in section
    assert section.startswith(f", schema {len(schema.MIGRATIONS)}\n")
    shown = " ".join(section.partition("```sql")[2].partition("```")[0].split())
    assert shown == " ".join(" ".join(schema.MIGRATIONS).split())


@pytest.fixture
def store(tmp_path: Path) -> EditStore:
    """Three edits, of which the second is undone and the third was undone and redone."""
    store = EditStore.open(tmp_path / "edits", BaseIdentity("Größe", "LlamaForCausalLM", "ab" * 32), create=True)
    with store.writing():
        for number in (1, 2, 3):
            A, B = torch.zeros(1, 9), torch.zeros(7, 1)
            A[0, number], B[3, 0] = number, 2.0
            factors = SparseFactors.from_factors("w", A, B, 0.5, base_dtype=torch.float32, base_sha256="0" * 64)
            request = EditRequest(f"Fact {number} is", "Zürich \N{ROSE}", keep=("Snow is",))
            edit = store.add(request, SparseDelta((factors,)), {"loss": 0.1})
        store.undo(store.edits()[1].id)
        store.undo(edit.id)
        store.redo(edit.id)
        store.note(edit.id, "from the errata \N{ROSE}")
    return store


def everything(folder: Path) -> object:
    store = EditStore.open(folder)
    return store.edits(), store.history()


def test_the_documented_reader_reads_our_stores(store: EditStore) -> None:
    base, updates = documented("read_store")(store.folder)
    assert base == store.base.as_detail()
    assert [edit for edit, _, _ in updates] == [edit.id for edit in store.active()]
    for (edit, request, (weights, _)), number in zip(updates, (1, 3), strict=True):
        assert request["prompt"] == store.find(edit).request.prompt == f"Fact {number} is"
        A, B, scale, _ = weights["w"]
        assert (scale * B @ A)[3, number] == number
        assert np.count_nonzero(B @ A) == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA application_id = 7", "not an edit store"),
        ("PRAGMA user_version = 2", "newer than this reader"),
        ("UPDATE edits SET request = replace(request, 'Fact', 'Fart')", "is damaged"),
        ("UPDATE events SET detail = '{}' WHERE kind = 'note'", "event 8 is damaged"),
        ("UPDATE edits SET active = 1", "contradicts its history"),
        ("DELETE FROM edits WHERE position = 3", "the history tells of other edits"),
        ("DELETE FROM events", "the first event is missing"),
    ],
)
def test_the_documented_reader_of_stores_refuses_what_ours_refuses(
    store: EditStore, statement: str, message: str
) -> None:
    with closing(sqlite3.connect(store.folder / "edits.sqlite")) as connection, connection:
        connection.execute(statement)
    with pytest.raises(StoreError):
        everything(store.folder)
    with pytest.raises(AssertionError, match=message):
        documented("read_store")(store.folder)


def test_the_documented_reader_of_stores_refuses_a_damaged_delta(store: EditStore) -> None:
    path = store.folder / "deltas" / f"{store.active()[0].delta_sha256}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(AssertionError, match="is damaged"):
        documented("read_store")(store.folder)
