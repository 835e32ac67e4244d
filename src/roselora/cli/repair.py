"""``roselora edit --from`` and ``roselora repair``: many facts at once, and what later edits have broken."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from roselora.cli.console import measuring, print_json, tell, working
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.stores import (
    DEFAULT_STORE,
    ForceOption,
    JsonOption,
    ModelOption,
    StoreOption,
    edit_as_json,
    open_editor,
)
from roselora.editing.contradictions import still_to_edit
from roselora.editing.request import EditRequest
from roselora.errors import RoseLoraError

if TYPE_CHECKING:
    from roselora.editing.editor import Editor
    from roselora.editing.store.edit_records import StoredEdit


def edit_many(
    editor: "Editor", requests: Sequence[EditRequest], store: Path, *, dry_run: bool = False, json: bool = False
) -> None:
    """Make every edit that is not in the store, mend what the later ones broke, and say what became of all.

    Exits with 1 if a fact could not be edited; the others are in the store.
    """
    new = still_to_edit(requests, editor.edits)
    fit = len(editor.that_fit(new))
    failed: list[tuple[EditRequest, RoseLoraError]] = []
    made: Sequence[StoredEdit] = ()
    repaired: Sequence[StoredEdit] = ()
    if fit < len(new) and not json:
        tell(f"the model's free neurons are enough for {fit} of {len(new)} facts, and maybe for some more")
    if not dry_run:
        with measuring("editing") as on_progress:
            on_progress(0, len(new))
            done = iter(range(1, len(new) + 1))

            def on_failure(request: EditRequest, error: RoseLoraError) -> None:
                failed.append((request, error))
                on_progress(next(done), len(new))

            made = editor.edit_many(new, lambda _: on_progress(next(done), len(new)), on_failure)
        with working("asking whether all hold"):
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
        _say(requests, new, made, failed, repaired, store, dry_run)
    if failed:
        raise typer.Exit(1)


def _say(
    requests: Sequence[EditRequest],
    new: Sequence[EditRequest],
    made: "Sequence[StoredEdit]",
    failed: Sequence[tuple[EditRequest, RoseLoraError]],
    repaired: "Sequence[StoredEdit]",
    store: Path,
    dry_run: bool,
) -> None:
    if skipped := len(requests) - len(new):
        tell(f"{skipped} of {len(requests)} facts are in the store already")
    if dry_run:
        tell(f"dry run: {len(new)} facts would be edited, as far as there is room, and nothing was kept")
        return
    for request, error in failed:
        tell(f"failed: {request.prompt} -> {request.target}: {error}")
    for edit in made:
        for id in edit.provenance.get("supersedes", ()):
            tell(f"edit {edit.id} takes the place of edit {id}")
    if repaired:
        tell(f"{len(repaired)} no longer held after the others, and were trained anew")
    tell(f"{len(made)} edits are in the store {store}")


def repair(
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train anew the active edits that later ones have broken; the old ones are undone.

    An edit whose place a later one has taken, by asking the same with another target, is left as it is.
    """
    editor = open_editor(store, model, device, dtype, force=force)
    with working("asking whether all hold, and mending"):
        made = editor.repair()
    if json:
        print_json({"repaired": [edit_as_json(edit) for edit in made]})
        return
    for edit in made:
        tell(f"edit {edit.provenance['repairs']} was broken; {edit.id} is in its place")
    tell(f"{len(made)} edits repaired" if made else "nothing to repair: every edit holds, or could not be mended")
