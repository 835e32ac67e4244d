"""What the verbs on a store share: where it is, how an edit looks as JSON and in a table."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from roselora.cli.console import styled, working

if TYPE_CHECKING:
    from roselora.editing.editor import Editor
    from roselora.editing.records import StoredEdit
    from roselora.editing.store import EditStore
    from roselora.editing.trained import Settings

DEFAULT_STORE = Path("edits")

StoreOption = Annotated[Path, typer.Option("--store", envvar="ROSELORA_STORE", help="The edit store's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="The base model, if it is elsewhere now.")]
EditArgument = Annotated[str, typer.Argument(metavar="ID", help="An edit's id, or the beginning of it.")]


def open_store(folder: Path) -> "EditStore":
    """The store, without its model."""
    from roselora.editing.store import EditStore

    return EditStore.open(folder)


def open_editor(
    folder: Path | None, model: str | None, device: str, dtype: str, settings: "Settings | None" = None
) -> "Editor":
    """The base model loaded with the store's active edits applied; without a folder, a temporary store."""
    if model is None:
        assert folder is not None, "a base that is not named is found in a store"
        model = open_store(folder).base.name
    with working(f"loading {model}"):
        from roselora.editing.editor import Editor

        return Editor.open(model, store=folder, settings=settings, device=device, dtype=dtype)


def edit_as_json(edit: "StoredEdit") -> dict[str, Any]:
    """Plain data for ``--json``."""
    request = edit.request
    return {
        "id": edit.id,
        "position": edit.position,
        "active": edit.active,
        "created": edit.created,
        "prompt": request.prompt,
        "target": request.target,
        "subject": request.subject,
        "rephrasings": list(request.rephrasings),
        "keep": list(request.keep),
        "delta_sha256": edit.delta_sha256,
        **edit.provenance,
    }


def edits_table(edits: Iterable["StoredEdit"], superseded: Collection[str] = ()) -> Table:
    """One line an edit, within 80 columns; ``superseded`` has the ids of active edits whose place later ones took."""
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("prompt", overflow="fold", ratio=1)
    table.add_column("target", overflow="fold", max_width=20)
    for edit in edits:
        state = ("active", "green") if edit.active else ("undone", "dim")
        if edit.id in superseded:
            state = ("superseded", "dim")
        when = edit.created[:16].replace("T", " ")
        table.add_row(edit.id, styled(state), when, edit.request.prompt, edit.request.target)
    return table
