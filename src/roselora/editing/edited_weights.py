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


class EditedWeights(ABC):
    """A base model whose weights hold edits.

    Attributes:
        model, tokenizer: only this object may change the model's weights.
        overlay: the edits that are in the weights, by their ids.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer, self.overlay = model, tokenizer, Overlay(model)

    @contextlib.contextmanager
    def trying(self, delta: SparseDelta) -> Iterator[None]:
        """Inside the block, a delta that is not committed is in the weights too."""
        self.overlay.apply("tried", delta)
        try:
            yield
        finally:
            self.overlay.remove("tried")

    @abstractmethod
    def bring_up_to_date(self) -> list[StoredEdit]:
        """Make the weights hold exactly the active edits, and return these in commit order."""

    @abstractmethod
    def commit(self, proposal: Proposal, instead_of: str | None = None) -> StoredEdit:
        """Make a proposed edit an active one.

        Args:
            instead_of: the id of an active edit, already out of the weights, that is undone at the same time.
        """

    @abstractmethod
    def previous_edits(self, beside: Sequence[EditRequest] = ()) -> PreviousEdits:
        """What a new edit must not disturb: the active edits and the requests beside it."""
