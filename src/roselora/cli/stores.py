"""What the commands on an edit store share: options, opening it, and edits as JSON and as a table."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from roselora.cli.console import styled, working
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.path_options import PATH
from roselora.errors import StoreError

if TYPE_CHECKING:
    from roselora.editing.editor import Editor
    from roselora.editing.methods.train_edit import Settings
    from roselora.editing.request import EditRequest
    from roselora.editing.store.edit_records import StoredEdit
    from roselora.editing.store.edit_store import EditStore
    from roselora.models import LoadedModel

DEFAULT_STORE = Path("edits")

StoreOption = Annotated[Path, typer.Option("--store", **PATH, envvar="ROSELORA_STORE", help="The edit store's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and exit.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="The base model, if it has moved or must be downloaded.")
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Apply the edits to a base model other than theirs; the history notes it."),
]

EditArgument = Annotated[str, typer.Argument(metavar="ID", help="An edit's id, or its first characters.")]


@dataclass(frozen=True, kw_only=True)
class EditorOptions:
    """The options of every command that loads the base model of an existing store."""

    store: StoreOption = DEFAULT_STORE
    model: ModelOption = None
    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"
    force: ForceOption = False
    json: JsonOption = False

    def open_editor(self) -> "Editor":
        """The base model with the store's active edits applied."""
        return open_editor(self.store, self.model, self.device, self.dtype, force=self.force)


def open_store(folder: Path) -> "EditStore":
    """Open a store without loading its model."""
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
    """Load the base model with the store's active edits applied.

    Args:
        folder: the store; None for a temporary one.
        model: the base model, downloaded if necessary; None for the one that the store names, which must be on disk.
        settings: of the edits; None for the defaults of the method that the model allows.
        force: apply the edits to a base model other than the one they were made for.
        requests: the edits to be made; one that is infeasible for this model is refused before a store is created.
            Without requests, the store must exist.
    """
    named = model is not None
    if folder is not None and not requests:
        open_store(folder)  # refuses a folder without a store before the model is loaded
    if model is None:
        assert folder is not None, "without a name, the base model is that of a store"
        model = named_base(folder, open_store(folder).base.name)
    with working(f"loading {model}"):
        from roselora.editing.editor import Editor
        from roselora.editing.feasibility import require_feasible
        from roselora.editing.methods.train_edit import default_settings
        from roselora.models import load

        loaded = load(model, device=device, dtype=dtype, fetch=named)
        for request in requests:
            require_feasible(loaded.model, loaded.tokenizer, request, settings or default_settings(loaded.model))
        return Editor(loaded, settings, folder, force=force)


def named_base(folder: Path, name: str) -> str:
    """The base model that a store's or an adapter's folder names, if it is on this machine.

    The folder may come from a stranger, so the name is not resolved against the working directory, and nothing is
    downloaded.
    """
    from roselora.models.loading import DEMO, HUB_ID
    from roselora.models.pretrained import is_cached

    here = os.path.exists(name)  # Path.exists raises an error if the name is too long
    if name == DEMO or (os.path.isabs(name) and here) or (HUB_ID.fullmatch(name) and not here and is_cached(name)):
        return name
    if not name:
        raise StoreError(f"{folder} names no base model; pass --model with a folder, a .gguf file or a hub id.")
    raise StoreError(
        f"{folder} was made for the base model {name}, which is not on this machine under that name; pass --model with "
        "a folder, a .gguf file or a hub id."
    )


def base_of_adapter(options: EditorOptions, adapter: Path) -> str:
    """The base model of a trained adapter: ``--model``, or the one that its folder names, if it is on this machine."""
    from roselora.serving.lora_folder import base_of

    return options.model or named_base(adapter, base_of(adapter))


def load_base(options: EditorOptions, base: str) -> "LoadedModel":
    """A base model, which is downloaded only if ``--model`` names it."""
    with working(f"loading {base}"):
        from roselora.models import load

        return load(base, device=options.device, dtype=options.dtype, fetch=options.model is not None)


def edit_as_json(edit: "StoredEdit") -> dict[str, Any]:
    """An edit as plain data, for ``--json``."""
    from roselora.editing.store.provenance import read_provenance

    request = edit.request
    method = read_provenance(edit.provenance).method
    return {
        **edit.provenance,  # first, so that it cannot override the store's own fields
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
        "form": request.form,
        "consequences": [asdict(fact) for fact in request.consequences],
        "delta_sha256": edit.delta_sha256,
    }


def edits_table(edits: Iterable["StoredEdit"], superseded: Collection[str] = ()) -> Table:
    """One line per edit, within 80 columns; ``superseded`` holds the ids of active edits that later ones replace."""
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
        more = len(edit.request.consequences)
        implied = f" and {more} consequence{'' if more == 1 else 's'}" if more else ""
        prompt = styled(edit.request.prompt, (implied, "dim"))
        table.add_row(edit.id, styled(state), when, prompt, edit.request.target)
    return table
