"""A model's weights and the store's active edits: that those hold exactly these."""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.proposal import Proposal
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.edit_store import EditStore
from roselora.editing.store.provenance import read_provenance
from roselora.editing.superseding import supersedes
from roselora.errors import NonFiniteError, WrongBaseError
from roselora.files import sha256_tensor


class EditedWeights:
    """The weights of one model, in which a store's active edits are.

    Args:
        model: the base model; its weights are changed by this object alone.
        store: its edits are in the weights after each :meth:`bring_up_to_date`.
        force: apply edits that were made for other weights.

    Attributes:
        overlay: the edits that are in the weights, by their ids.
    """

    def __init__(self, model: nn.Module, store: EditStore, force: bool) -> None:
        self.overlay = Overlay(model)
        self._model, self._store, self._force = model, store, force

    def bring_up_to_date(self) -> list[StoredEdit]:
        """Make the weights hold exactly the store's active edits, which another process may have changed.

        If not all of those that are missing can be applied, none is. Returns the edits that are in the weights now, in
        commit order; the store may have others a moment later.

        Raises:
            WrongBaseError: a delta is for other weights, or the result is not what was committed.
            NonFiniteError: the edits don't add up to finite weights; the message says what to undo or redo.
        """
        wanted = {edit.id: edit for edit in self._store.active()}
        missing = [edit for key, edit in wanted.items() if key not in self.overlay.active]
        with contextlib.ExitStack() as on_failure:

            def bring_in(edit: StoredEdit) -> None:
                self.bring_back(edit)
                on_failure.callback(self.overlay.remove, edit.id)

            gone = [partial(self.overlay.remove, key) for key in self.overlay.active if key not in wanted]
            self._make([*gone, *(partial(bring_in, edit) for edit in missing)])
            if missing and not self._force:
                self._prove(list(wanted.values()))
            on_failure.pop_all()
        return list(wanted.values())

    def _make(self, changes: Sequence[Callable[[], None]]) -> None:
        """Make all changes, in an order in which every sum on the way is finite: commit order may be none."""
        while changes:
            waiting: list[Callable[[], None]] = []
            for change in changes:
                try:
                    change()
                except NonFiniteError as error:
                    waiting.append(change)
                    cause = error
            if len(waiting) == len(changes):
                last = [event for event in self._store.history() if event.edit is not None and event.kind != "note"][-1]
                way_back = "redo" if last.kind == "undo" else "undo"
                raise NonFiniteError(
                    f"The active edits don't add up to finite weights: {cause} What was done last to the store is "
                    f"taken back with `roselora {way_back} {last.edit}`."
                ) from cause
            changes = waiting

    def bring_back(self, edit: StoredEdit) -> None:
        """Apply one stored edit, at its place in commit order."""
        self.overlay.apply(edit.id, self._store.delta_of(edit), edit.position, force=self._force)

    def commit(self, proposal: Proposal, instead_of: str | None = None) -> StoredEdit:
        """Put a proposed edit into the weights and the store, or into neither.

        Args:
            instead_of: the id of an active edit, out of the weights already, that is undone at once with it.
        """
        active = [edit for edit in self._store.active() if edit.id != instead_of]
        # First into the weights, so that an edit that cannot be applied is never stored; out again if not stored.
        self.overlay.apply("proposed", proposal.delta)
        try:
            state = {"after": active_digest(active), "weights": self._hashes(proposal.delta)}
            provenance = {**proposal.provenance, "state": state}
            if older := supersedes(proposal.request, active):
                provenance["supersedes"] = older
            edit = self._store.add(proposal.request, proposal.delta, provenance, instead_of=instead_of)
        finally:
            self.overlay.remove("proposed")
        self.overlay.apply(edit.id, proposal.delta, edit.position)
        return edit

    def _prove(self, active: list[StoredEdit]) -> None:
        """Compare the weights with the hashes taken when the last edit was committed onto these same others.

        Where others have since been undone or redone there is nothing to compare; each part is still proven by
        the bases' and the deltas' own hashes.
        """
        last, before = active[-1], active[:-1]
        state = read_provenance(last.provenance).state
        if state is None or state.after not in (active_digest(before), [edit.id for edit in before]):
            return  # or another program stored this edit
        if state.weights != self._hashes(self._store.delta_of(last)):
            raise WrongBaseError(
                f"The weights with edit {last.id} are not those that it was committed with; check the store with "
                "`roselora verify`."
            )

    def _hashes(self, delta: SparseDelta) -> dict[str, str]:
        """The hashes of the weights that a delta touches, as they are now."""
        return {w.name: sha256_tensor(self._model.get_parameter(w.name)) for w in delta.weights}


def active_digest(active: Sequence[StoredEdit]) -> str:
    """Which edits are active, in commit order: the SHA-256 of their ids, joined by commas.

    A digest and not the ids, for each edit tells it, and a store would grow with the square of its edits.
    """
    return hashlib.sha256(",".join(edit.id for edit in active).encode()).hexdigest()
