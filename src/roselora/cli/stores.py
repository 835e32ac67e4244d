"""What the verbs on a store share: where it is, how an edit looks as JSON and in a table."""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from roselora.cli.console import styled, working
from roselora.cli.path_options import PATH
from roselora.errors import StoreError

if TYPE_CHECKING:
    from roselora.editing.editor import Editor
    from roselora.editing.methods.train_edit import Settings
    from roselora.editing.request import EditRequest
    from roselora.editing.store.edit_records import StoredEdit
    from roselora.editing.store.edit_store import EditStore

DEFAULT_STORE = Path("edits")

StoreOption = Annotated[Path, typer.Option("--store", **PATH, envvar="ROSELORA_STORE", help="The edit store's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="The base model, if it is elsewhere now, or must be fetched.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Apply the edits to another base than theirs; the store's history will say so.")
]
EditArgument = Annotated[str, typer.Argument(metavar="ID", help="An edit's id, or the beginning of it.")]


def open_store(folder: Path) -> "EditStore":
    """The store, without its model."""
    from roselora.editing.store.edit_store import EditStore

    return EditStore.open(folder)


def open_editor(
    folder: Path | None,
    model: str | None,
    device: str,
    dtype: str,
    settings: "Settings | None" = None,
    *,
    force: bool = False,
    requests: "Sequence[EditRequest]" = (),
) -> "Editor":
    """The base model loaded with the store's active edits applied.

    Args:
        folder: the store's; without one, a temporary store.
        model: the base, which is fetched if need be; without it, the one that the store names, if it is here.
        force: apply the edits to another base than that which they were made for.
        requests: what is to be edited; refused before a store is made, if it cannot be meant for this model. Without
            any, the store must be there.
    """
    named = model is not None
    if folder is not None and not requests:
        open_store(folder)  # which refuses a folder without one, before the model is loaded
    if model is None:
        assert folder is not None, "a base that is not named is found in a store"
        model = _base_of(folder)
    with working(f"loading {model}"):
        from roselora.editing.editor import Editor
        from roselora.editing.feasibility import require_feasible
        from roselora.editing.methods.train_edit import default_settings
        from roselora.models import load

        loaded = load(model, device=device, dtype=dtype, fetch=named)
        for request in requests:
            require_feasible(loaded.model, loaded.tokenizer, request, settings or default_settings(loaded.model))
        return Editor(loaded, settings, folder, force=force)


def _base_of(folder: Path) -> str:
    """The base model that a store names, which is never looked for in the folder that the user happens to be in.

    Nor is it fetched: the store may come from anyone.
    """
    from roselora.models.loading import DEMO, HUB_ID
    from roselora.models.pretrained import is_cached

    name = open_store(folder).base.name
    here = os.path.exists(name)  # and not Path's, which raises an error for a name that is too long
    if name == DEMO or (os.path.isabs(name) and here) or (HUB_ID.fullmatch(name) and not here and is_cached(name)):
        return name
    raise StoreError(
        f"{folder} was made for the base model {name}, which is not found by that name here; name it with --model: a "
        "folder, a .gguf file or a hub id."
    )


def edit_as_json(edit: "StoredEdit") -> dict[str, Any]:
    """Plain data for ``--json``."""
    from roselora.editing.store.provenance import read_provenance

    request = edit.request
    method = read_provenance(edit.provenance).method
    return {
        **edit.provenance,  # first, for what is the store's own is not another program's to say
        **({} if method is None else {"method": method}),
        "id": edit.id,
        "position": edit.position,
        "active": edit.active,
        "created": edit.created,
        "prompt": request.prompt,
        "target": request.target,
        "subject": request.subject,
        "rephrasings": list(request.rephrasings),
        "keep": list(request.keep),
        "space": request.space,
        "delta_sha256": edit.delta_sha256,
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
