"""``roselora undo`` and ``redo``. Neither loads a model."""

from roselora.cli.console import print_json, tell
from roselora.cli.stores import DEFAULT_STORE, DryRunOption, EditArgument, JsonOption, StoreOption, open_store


def undo(
    edit_id: EditArgument, store: StoreOption = DEFAULT_STORE, dry_run: DryRunOption = False, json: JsonOption = False
) -> None:
    """Undo one edit, in any order: the weights become exactly what they would be without it."""
    _switch(edit_id, store, dry_run, json, active=False)


def redo(
    edit_id: EditArgument, store: StoreOption = DEFAULT_STORE, dry_run: DryRunOption = False, json: JsonOption = False
) -> None:
    """Reactivate an undone edit, at its original position in the order of edits."""
    _switch(edit_id, store, dry_run, json, active=True)


def _switch(edit_id: str, store: StoreOption, dry_run: bool, json: bool, *, active: bool) -> None:
    opened = open_store(store)
    edit = opened.require_switch(edit_id, active)
    word = "redone" if active else "undone"
    if not dry_run:
        with opened.writing():
            edit = opened.redo(edit.id) if active else opened.undo(edit.id)
    if json:
        print_json({"id": edit.id, "active": active if not dry_run else edit.active, "dry_run": dry_run})
    else:
        request = edit.request
        tell(f"{'would be ' if dry_run else ''}{word}: {edit.id} '{request.prompt}' -> '{request.target}'")
