"""``roselora export``: the edited model, or its edits alone, for other programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from roselora.cli.console import print_json, tell, working
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.path_options import PATH
from roselora.cli.stores import (
    DEFAULT_STORE,
    DryRunOption,
    ForceOption,
    JsonOption,
    ModelOption,
    StoreOption,
    open_editor,
    open_store,
)
from roselora.files import user_path

if TYPE_CHECKING:
    from roselora.editing.store.edit_records import StoredEdit


def export(
    path: Annotated[
        Path, typer.Argument(**PATH, help="Where to write: a new or empty folder; a file for --format patch.")
    ],
    format: Annotated[
        Literal["model", "lora", "patch"],
        typer.Option(help="model: merged, in safetensors; lora: one LoRA adapter; patch: flat index and values."),
    ] = "model",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Write what all active edits make of the model; it is read back and compared before it is called done."""
    from roselora.editing.store.store_folder import require_outside_stores
    from roselora.serving.edit_export import require_exportable

    opened = open_store(store)
    edits: Sequence[StoredEdit] = opened.active()
    require_exportable(len(edits), path, format, model or opened.base.name)  # before the model is loaded
    require_outside_stores(user_path(path))
    if not dry_run:
        editor = open_editor(store, model, device, dtype, force=force)
        with working(f"writing {path}"):
            edits = editor.export(path, format)
    if json:
        ids = [edit.id for edit in edits]
        print_json({"path": str(path), "format": format, "edits": ids, "dry_run": dry_run})
    else:
        verb = "would write" if dry_run else "wrote"
        tell(f"{verb} {path} ({format}, {len(edits)} active edits)")
