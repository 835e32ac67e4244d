"""``roselora edit --from``: every fact of a file becomes an edit of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from roselora.cli.console import measuring, print_json, tell, working
from roselora.cli.edit_consequences import show_left_out
from roselora.cli.stores import edit_as_json
from roselora.editing.request import EditRequest
from roselora.errors import RoseLoraError

if TYPE_CHECKING:
    from roselora.editing.editor import Editor
    from roselora.editing.store.edit_records import StoredEdit


def edit_many(
    editor: "Editor", requests: Sequence[EditRequest], store: Path, *, dry_run: bool = False, json: bool = False
) -> None:
    """Make every edit that is not in the store yet, repair the edits that this breaks, and print the outcome.

    Exits with 1 if an edit failed; the others are in the store.
    """
    from roselora.editing.contradictions import still_to_edit

    new = still_to_edit(requests, editor.edits)
    fit = len(editor.that_fit(new))
    failed: list[tuple[EditRequest, RoseLoraError]] = []
    made: Sequence[StoredEdit] = ()
    repaired: Sequence[StoredEdit] = ()
    if fit < len(new) and not json:
        tell(f"the model has enough free neurons for {fit} of {len(new)} facts, perhaps for a few more")
    if not dry_run:
        with measuring("editing") as on_progress:
            on_progress(0, len(new))
            done = iter(range(1, len(new) + 1))

            def on_failure(request: EditRequest, error: RoseLoraError) -> None:
                failed.append((request, error))
                on_progress(next(done), len(new))

            made = editor.edit_many(new, lambda _: on_progress(next(done), len(new)), on_failure)
        with working("checking all edits"):
            repaired = editor.repair()
    if json:
        result: dict[str, Any] = {
            "dry_run": dry_run,
            "edits": [edit_as_json(edit) for edit in made],
            "skipped": len(requests) - len(new),
            "room": fit,
            "failed": [{"prompt": r.prompt, "target": r.target, "reason": str(error)} for r, error in failed],
            "repaired": [edit_as_json(edit) for edit in repaired],
        }
        print_json(result)
    else:
        _print(requests, new, made, failed, repaired, store, dry_run)
    if failed:
        raise typer.Exit(1)


def _print(
    requests: Sequence[EditRequest],
    new: Sequence[EditRequest],
    made: "Sequence[StoredEdit]",
    failed: Sequence[tuple[EditRequest, RoseLoraError]],
    repaired: "Sequence[StoredEdit]",
    store: Path,
    dry_run: bool,
) -> None:
    if skipped := len(requests) - len(new):
        tell(f"{skipped} of {len(requests)} facts are already in the store")
    if dry_run:
        tell(f"dry run: up to {len(new)} facts would be edited; nothing was saved")
        return
    for request, error in failed:
        tell(f"failed: {request.prompt} -> {request.target}: {error}")
    for edit in made:
        show_left_out(edit.provenance)
        for id in edit.provenance.get("supersedes", ()):
            tell(f"edit {edit.id} replaces edit {id}")
    if repaired:
        tell(f"{len(repaired)} edits were broken by later ones and retrained")
    tell(f"{len(made)} edits are in the store {store}")
