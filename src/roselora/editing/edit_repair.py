"""Replacing active edits that no longer hold because of later edits."""

from collections.abc import Callable
from dataclasses import replace

from roselora.editing.contradictions import standing_requests, superseded
from roselora.editing.edit_answers import broken_requests
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.many_edits import CANNOT_BE_MADE
from roselora.editing.methods.train_edit import Settings
from roselora.editing.propose import propose
from roselora.editing.store.edit_records import StoredEdit


def repair(
    edited: EditedWeights,
    settings_of: Callable[[StoredEdit], Settings],
    on_edit: Callable[[StoredEdit], None] | None = None,
) -> list[StoredEdit]:
    """Replace the active edits that no longer hold; returns the new ones, whose provenance names the old ones.

    Edits that a contradicting edit superseded are left alone, and so are those that cannot be trained.

    Args:
        settings_of: how the edit that replaces an old one is trained.
        on_edit: called after each new edit.
    """
    made: list[StoredEdit] = []
    active = edited.bring_up_to_date()
    overruled = superseded(active)
    wanted = zip(active, standing_requests(active), strict=True)
    standing = [(edit, request) for edit, request in wanted if edit.id not in overruled]
    for number in broken_requests(edited.model, edited.tokenizer, [request for _, request in standing]):
        old, request = standing[number]
        try:
            settings = settings_of(old)
            edited.overlay.remove(old.id)
            proposal = propose(edited, request, settings)
            proposal = replace(proposal, provenance={**proposal.provenance, "repairs": old.id})
            made.append(edited.commit(proposal, instead_of=old.id))
        except CANNOT_BE_MADE:
            continue
        finally:
            edited.bring_up_to_date()
        if on_edit is not None:
            on_edit(made[-1])
    return made
