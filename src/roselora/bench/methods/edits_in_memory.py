"""Edits in a model's weights without a store, on which a benchmark runs the editor's own functions."""

from dataclasses import replace
from datetime import UTC, datetime

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.weight_changes import Deltas
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.proposal import Proposal
from roselora.editing.store.edit_records import StoredEdit


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

    def bring_up_to_date(self) -> list[StoredEdit]:
        """Put back active edits that were taken out of the weights; returns all active ones in commit order."""
        active = [edit for edit in self.edits if edit.active]
        for edit in active:
            if edit.id not in self.overlay.active:
                self.overlay.apply(edit.id, self._by_id[edit.id], edit.position)
        return active

    def commit(self, proposal: Proposal, instead_of: str | None = None) -> StoredEdit:
        """Put a proposed edit into the weights."""
        position = len(self.edits) + 1
        edit = StoredEdit(
            position, str(position), proposal.request, "", proposal.provenance, datetime.now(UTC).isoformat(), True
        )
        self.deltas.note(proposal.delta)
        self.overlay.apply(edit.id, proposal.delta, position)
        if instead_of is not None:
            self.edits = [replace(other, active=other.active and other.id != instead_of) for other in self.edits]
        self.edits.append(edit)
        self._by_id[edit.id] = proposal.delta
        return edit

    def all_edits(self) -> list[StoredEdit]:
        """This object's edits; earlier calls' are not among them."""
        return self.edits
