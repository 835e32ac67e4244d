"""Whether the neurons of an undone edit are still free; checked without loading the model."""

from collections.abc import Sequence

from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.provenance import read_provenance
from roselora.errors import StoreError


def require_free_neurons(undone: StoredEdit, active: Sequence[StoredEdit]) -> None:
    """Refuse to redo an edit whose neurons another edit has taken since: the sum of both would be neither.

    Args:
        active: the edits that are not undone.

    Raises:
        StoreError: one of them holds a neuron of the undone edit.
    """
    wanted = _neurons(undone)
    for edit in active:
        if not wanted.isdisjoint(_neurons(edit)):
            raise StoreError(
                f"Edit {undone.id} cannot be redone, because edit {edit.id} holds its neurons now; "
                f"undo {edit.id} first."
            )


def _neurons(edit: StoredEdit) -> set[tuple[int, int]]:
    """Block and index of each neuron that an edit replaces."""
    return {
        (replaced.block, index)
        for replaced in read_provenance(edit.provenance).neurons or ()
        for index in replaced.indices
    }
