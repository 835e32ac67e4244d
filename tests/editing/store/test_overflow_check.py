"""An undo or redo after which the active deltas would overflow."""

import pytest
import torch

from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_store import EditStore
from roselora.errors import NonFiniteError
from tests.editing.store.contents import content


def far_delta(value: float) -> SparseDelta:
    """Adds `value` to one entry of a weight in half precision."""
    factors = SparseFactors.from_factors(
        "w", torch.tensor([[0.0, value]]), torch.ones(1, 1), 1.0, base_dtype=torch.float16, base_sha256="0" * 64
    )
    return SparseDelta((factors,))


def test_promise_3_an_undo_or_redo_after_which_the_others_are_too_much_for_the_dtype_is_refused(
    store: EditStore,
) -> None:
    with store.writing():
        up, down, again = (store.add(EditRequest("a", "b"), far_delta(v), {}) for v in (6e4, -6e4, 6e4))
        before = content(store)
        with pytest.raises(NonFiniteError, match="w would not be finite in float16"):
            store.undo(down.id)
        assert content(store) == before
        store.undo(again.id)
        store.undo(down.id)
        before = content(store)
        with pytest.raises(NonFiniteError, match="w would not be finite in float16"):
            store.redo(again.id)
        assert content(store) == before
        store.undo(up.id)
        store.redo(again.id)
