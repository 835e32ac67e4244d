"""The interface of an edited model that training and committing edits need, with a store or without one."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.proposal import Proposal
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.provenance import read_provenance


class EditedWeights(ABC):
    """A base model whose weights hold edits.

    Args:
        earlier: edits that are in the weights already and not this object's.

    Attributes:
        model, tokenizer: only this object may change the model's weights.
        overlay: the edits that are in the weights, by their ids.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, earlier: PreviousEdits | None = None
    ) -> None:
        self.model, self.tokenizer, self.overlay = model, tokenizer, Overlay(model)
        self._earlier = earlier or PreviousEdits()
        self._held: list[Proposal] = []

    @contextlib.contextmanager
    def trying(self, delta: SparseDelta, key: str = "tried") -> Iterator[None]:
        """Inside the block, a delta that is not committed is in the weights too, under a key of its own."""
        self.overlay.apply(key, delta)
        try:
            yield
        finally:
            self.overlay.remove(key)

    @contextlib.contextmanager
    def holding(self, proposal: Proposal) -> Iterator[None]:
        """Inside the block, a proposal that is not committed is in the weights, and counts as a previous edit."""
        with self.trying(proposal.delta, f"held {len(self._held)}"):
            self._held.append(proposal)
            try:
                yield
            finally:
                self._held.pop()

    def previous_edits(self, beside: Sequence[EditRequest] = ()) -> PreviousEdits:
        """What a new edit must not disturb: the active edits and the requests beside it, each fact for itself."""
        edits = self.all_edits()
        neurons = {block: list(indices) for block, indices in self._earlier.neurons.items()}
        undone: dict[int, list[int]] = {}
        made = [*((edit.provenance, edit.active) for edit in edits), *((held.provenance, True) for held in self._held)]
        for provenance, active in made:
            for replaced in read_provenance(provenance).neurons or ():
                (neurons if active else undone).setdefault(replaced.block, []).extend(replaced.indices)
        # Some of the requests beside it may have been committed meanwhile, and would be named twice.
        requests = [edit.request for edit in edits if edit.active] + [held.request for held in self._held]
        facts = [*self._earlier.requests, *(fact for request in (*requests, *beside) for fact in request.facts)]
        return PreviousEdits(list(dict.fromkeys(facts)), neurons, undone)

    @abstractmethod
    def all_edits(self) -> Sequence[StoredEdit]:
        """All committed edits in commit order, undone ones included."""

    @abstractmethod
    def bring_up_to_date(self) -> list[StoredEdit]:
        """Make the weights hold exactly the active edits, and return these in commit order."""

    @abstractmethod
    def commit(self, proposal: Proposal, instead_of: str | None = None) -> StoredEdit:
        """Make a proposed edit an active one.

        Args:
            instead_of: the id of an active edit, already out of the weights, that is undone at the same time.
        """
