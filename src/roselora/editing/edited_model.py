"""A model together with the store of its edits: the weights hold exactly the store's active edits."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.contradictions import supersedes
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.proposal import Proposal
from roselora.editing.store.edit_records import BaseIdentity, StoredEdit
from roselora.editing.store.edit_store import EditStore
from roselora.editing.store.provenance import read_provenance
from roselora.errors import NonFiniteError, WrongBaseError
from roselora.files import dtype_name, sha256_tensor
from roselora.models.devices import require_one_device
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import LoadedModel


class EditedModel(EditedWeights):
    """A base model whose weights hold the active edits of a store.

    Args:
        loaded: the base model; from now on only this object may change its weights.
        folder: the store's folder, made if it is missing.
        force: apply edits that were made for other weights.

    Attributes:
        sha256: the fingerprint of the base's weights.

    Raises:
        WrongBaseError: the store, or a delta in it, belongs to another base.
        StoreError: the store cannot be used.
        UnsupportedError: the model is spread over several devices.
    """

    def __init__(self, loaded: LoadedModel, folder: str | os.PathLike[str], force: bool) -> None:
        require_one_device(loaded.model)
        super().__init__(loaded.model, loaded.tokenizer)
        self.sha256 = fingerprint(self.model)
        base = BaseIdentity(loaded.name, type(self.model).__name__, self.sha256, dtype_name(self.model.dtype))
        self.store = EditStore.open(folder, base, create=True, force=force)
        self._force = force
        self.bring_up_to_date()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store's writer lock inside the block, with the weights up to date.

        Raises:
            LockedError: another process is writing to the store.
        """
        with self.store.writing():
            self.bring_up_to_date()
            yield

    def bring_up_to_date(self) -> list[StoredEdit]:
        """Make the weights hold exactly the store's active edits, which another process may have changed.

        If one of the missing edits cannot be applied, none is. Returns the edits that are in the weights now, in commit
        order; another process may change the store a moment later.

        Raises:
            WrongBaseError: a delta is for other weights, or the result is not what was committed.
            NonFiniteError: the edits don't add up to finite weights; the message says what to undo or redo.
        """
        wanted = {edit.id: edit for edit in self.store.active()}
        missing = [edit for key, edit in wanted.items() if key not in self.overlay.active]
        with contextlib.ExitStack() as on_failure:

            def bring_in(edit: StoredEdit) -> None:
                self._apply(edit)
                on_failure.callback(self.overlay.remove, edit.id)

            gone = [partial(self.overlay.remove, key) for key in self.overlay.active if key not in wanted]
            self._make_all([*gone, *(partial(bring_in, edit) for edit in missing)])
            if missing and not self._force:
                self._require_committed_weights(list(wanted.values()))
            on_failure.pop_all()
        return list(wanted.values())

    def commit(self, proposal: Proposal, instead_of: str | None = None) -> StoredEdit:
        """Put a proposed edit into the weights and the store, or into neither.

        Args:
            instead_of: the id of an active edit, already out of the weights, that is undone in the same transaction.
        """
        active = [edit for edit in self.store.active() if edit.id != instead_of]
        # First into the weights, so that an edit that cannot be applied is never stored. Then out again in any case:
        # the edit's id and its place in commit order are known only once it is stored.
        with self.trying(proposal.delta):
            state = {"after": active_digest(active), "weights": self._hashes(proposal.delta)}
            provenance = {**proposal.provenance, "state": state}
            if older := supersedes(proposal.request, active):
                provenance["supersedes"] = older
            edit = self.store.add(proposal.request, proposal.delta, provenance, instead_of=instead_of)
        self.overlay.apply(edit.id, proposal.delta, edit.position)
        return edit

    def undo(self, edit: StoredEdit) -> StoredEdit:
        """Take an edit out of the weights and mark it as undone, or neither. Raises what `EditStore.undo` raises."""
        try:
            # First out of the weights, so that what they refuse is never stored.
            if edit.active:
                self.overlay.remove(edit.id)
            return self.store.undo(edit.id)
        finally:
            self.bring_up_to_date()

    def redo(self, edit: StoredEdit) -> StoredEdit:
        """Bring an edit back into the weights and mark it active, or neither. Raises what `EditStore.redo` raises."""
        try:
            if not edit.active:
                self._apply(edit)
            return self.store.redo(edit.id)
        finally:
            self.bring_up_to_date()

    @contextlib.contextmanager
    def without_edits(self) -> Iterator[None]:
        """Inside the block, the weights are the base's own."""
        try:
            for key in self.overlay.active:
                self.overlay.remove(key)
            yield
        finally:
            self.bring_up_to_date()

    def all_edits(self) -> list[StoredEdit]:
        """The store's edits, in commit order."""
        return self.store.edits()

    def _apply(self, edit: StoredEdit) -> None:
        self.overlay.apply(edit.id, self.store.delta_of(edit), edit.position, force=self._force)

    def _make_all(self, changes: Sequence[Callable[[], None]]) -> None:
        """Make all changes, in any order in which no sum on the way overflows; commit order may be none of these."""
        while changes:
            refused: list[Callable[[], None]] = []
            for change in changes:
                try:
                    change()
                except NonFiniteError as error:
                    refused.append(change)
                    cause = error
            if len(refused) == len(changes):
                last = [event for event in self.store.history() if event.edit is not None and event.kind != "note"][-1]
                way_back = "redo" if last.kind == "undo" else "undo"
                raise NonFiniteError(
                    f"The active edits don't add up to finite weights: {cause} The last change to the store can be "
                    f"taken back with `roselora {way_back} {last.edit}`."
                ) from cause
            changes = refused

    def _require_committed_weights(self, active: list[StoredEdit]) -> None:
        """Compare the weights with the hashes that were stored when the last edit was committed.

        They are comparable only while the same other edits are active as then. Otherwise each part is still proven by
        the hashes of the base and of the deltas.
        """
        last, before = active[-1], active[:-1]
        state = read_provenance(last.provenance).state
        if state is None or state.after not in (active_digest(before), [edit.id for edit in before]):
            return  # another program stored this edit, or others have since been undone or redone
        if state.weights != self._hashes(self.store.delta_of(last)):
            raise WrongBaseError(
                f"The weights with edit {last.id} are not those that it was committed with; check the store with "
                "`roselora verify`."
            )

    def _hashes(self, delta: SparseDelta) -> dict[str, str]:
        """The hashes of the weights that a delta touches, as they are now."""
        return {w.name: sha256_tensor(self.model.get_parameter(w.name)) for w in delta.weights}


def active_digest(active: Sequence[StoredEdit]) -> str:
    """Which edits are active, in commit order: the SHA-256 of their ids, joined by commas.

    Every edit stores it. The ids themselves would make a store grow with the square of its edits.
    """
    return hashlib.sha256(",".join(edit.id for edit in active).encode()).hexdigest()
