"""Edits in a model's weights, on which a benchmark runs the editor's own functions.

Unlike the editor's, they may follow edits that other methods or earlier calls have made in the weights.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.weight_changes import Deltas
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.proposal import Proposal
from roselora.editing.store.edit_records import BaseIdentity, StoredEdit
from roselora.editing.store.edit_store import EditStore
from roselora.files import dtype_name
from roselora.models.fingerprint import fingerprint


class EditsInMemory(EditedWeights):
    """The edits of one call of a method.

    Args:
        previous: the edits of earlier calls, which are in the weights already.

    Attributes:
        edits: those of this call, undone ones included, in commit order.
        deltas: what the call has changed, and the way back.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, previous: PreviousEdits) -> None:
        super().__init__(model, tokenizer, previous)
        self.edits: list[StoredEdit] = []
        self.deltas = Deltas(model, self.overlay)
        self._by_id: dict[str, SparseDelta] = {}
        self._store: EditStore | None = None

    def keep_in(self, folder: Path) -> None:
        """Keep the edits in a store too; those that are in it already are put into the weights.

        Raises:
            WrongBaseError: the store belongs to other weights than the present ones.
            StoreError: it cannot be used.
        """
        base = BaseIdentity("base", type(self.model).__name__, fingerprint(self.model), dtype_name(self.model.dtype))
        self._store = EditStore.open(folder, base, create=True)
        self.edits = self._store.edits()
        for edit in self.edits:
            if edit.active:
                self._put(edit, self._store.delta_of(edit))

    def bring_up_to_date(self) -> list[StoredEdit]:
        """Put back active edits that were taken out of the weights; returns all active ones in commit order."""
        active = [edit for edit in self.edits if edit.active]
        for edit in active:
            if edit.id not in self.overlay.active:
                self.overlay.apply(edit.id, self._by_id[edit.id], edit.position)
        return active

    def commit(self, proposal: Proposal, instead_of: str | None = None) -> StoredEdit:
        """Put a proposed edit into the weights."""
        if self._store is None:
            position = len(self.edits) + 1
            now = datetime.now(UTC).isoformat()
            edit = StoredEdit(position, str(position), proposal.request, "", proposal.provenance, now, True)
        else:
            with self.trying(proposal.delta), self._store.writing():  # what the weights refuse is never stored
                edit = self._store.add(proposal.request, proposal.delta, proposal.provenance, instead_of=instead_of)
        self._put(edit, proposal.delta)
        if instead_of is not None:
            self.edits = [replace(other, active=other.active and other.id != instead_of) for other in self.edits]
        self.edits.append(edit)
        return edit

    def _put(self, edit: StoredEdit, delta: SparseDelta) -> None:
        """Put an edit into the weights."""
        self.deltas.note(delta)
        self.overlay.apply(edit.id, delta, edit.position)
        self._by_id[edit.id] = delta

    def all_edits(self) -> list[StoredEdit]:
        """This object's edits; earlier calls' are not among them."""
        return self.edits
