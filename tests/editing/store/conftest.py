"""Fixtures for the edit store's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore


@pytest.fixture(scope="session")
def base() -> BaseIdentity:
    """The model that the stores in these tests are for."""
    return BaseIdentity("tiny", "LlamaForCausalLM", "ab" * 32)


@pytest.fixture(scope="session")
def small_delta() -> Callable[[float], SparseDelta]:
    """Makes a delta of one small weight, another one for each value."""

    def make(value: float = 1.0) -> SparseDelta:
        A, B = torch.zeros(2, 8), torch.zeros(6, 2)
        A[:, 1], B[2] = value, 2.0
        factors = SparseFactors.from_factors("w", A, B, 0.5, base_dtype=torch.float32, base_sha256="0" * 64)
        return SparseDelta((factors,), {"value": value})

    return make


@pytest.fixture(scope="session")
def make_store(base: BaseIdentity, small_delta: Callable[[float], SparseDelta]) -> Callable[[Path], EditStore]:
    """Makes a store with three edits, of which the second is undone and the third has a note."""

    def make(folder: Path) -> EditStore:
        store = EditStore.open(folder, base, create=True)
        with store.writing():
            for number in (1, 2, 3):
                request = EditRequest(f"Fact {number} is", "Zürich", rephrasings=("Fakt ist",), keep=("Snow is",))
                edit = store.add(request, small_delta(number), {"seed": number, "text": "s" * 500})
            store.undo(store.edits()[1].id)
            store.note(edit.id, "from the errata")
        return store

    return make


@pytest.fixture
def store(tmp_path: Path, make_store: Callable[[Path], EditStore]) -> EditStore:
    """Such a store of this test's own."""
    return make_store(tmp_path / "store")
