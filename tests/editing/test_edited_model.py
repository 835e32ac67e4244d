"""What an edit stores about the edits before it."""

from roselora.editing.edited_model import active_digest
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit


def test_a_store_grows_by_as_much_with_the_last_edit_as_with_the_first() -> None:
    """Each edit tells which others were active; it does so in a digest, and not one by one."""
    edits = [StoredEdit(n, f"{n:012x}", EditRequest("a", "b"), "0" * 64, {}, "", True) for n in range(1, 500)]
    assert len(active_digest(edits)) == len(active_digest([]))
    assert active_digest(edits) != active_digest(edits[:-1]) != active_digest(edits[1:])
