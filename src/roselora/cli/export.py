"""``roselora export``: the edited model, or only its edits, in a format that other programs read."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from roselora.cli.console import print_json, tell, working
from roselora.cli.option_groups import takes_options
from roselora.cli.path_options import PATH
from roselora.cli.stores import (
    DryRunOption,
    EditorOptions,
    base_of_adapter,
    load_base,
    open_store,
)
from roselora.errors import ModelError

if TYPE_CHECKING:
    from roselora.editing.store.edit_records import StoredEdit
    from roselora.serving.edit_export import Format


@takes_options()
def export(
    options: EditorOptions,
    path: Annotated[
        Path, typer.Argument(**PATH, help="A new or empty folder; for gguf, gguf-lora and patch a new file.")
    ],
    format: Annotated[
        Literal["model", "lora", "gguf", "gguf-lora", "mlx", "patch"],
        typer.Option(
            help="model: merged, in safetensors. lora: one LoRA adapter, for PEFT and vLLM. gguf: a copy of the "
            "base's GGUF file with the edited weights. gguf-lora: an adapter for llama.cpp and Ollama. mlx: one "
            "for mlx-lm. patch: the entries that change."
        ),
    ] = "model",
    adapter: Annotated[
        Path | None,
        typer.Option(**PATH, help="Export this trained LoRA adapter's folder instead of a store's edits."),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write the model with all active edits, or the edits alone; the result is read back and compared."""
    from roselora.editing.store.store_folder import require_outside_stores
    from roselora.serving.edit_export import require_exportable

    require_outside_stores(path)
    if adapter is not None:
        _export_adapter(options, adapter, path, format, dry_run=dry_run)
        return

    opened = open_store(options.store)
    edits: Sequence[StoredEdit] = opened.active()
    require_exportable(len(edits), path, format, options.model or opened.base.name)  # before the model is loaded
    if not dry_run:
        editor = options.open_editor()
        with working(f"writing {path}"):
            edits = editor.export(path, format)
    if options.json:
        ids = [edit.id for edit in edits]
        print_json({"path": str(path), "format": format, "edits": ids, "dry_run": dry_run})
    else:
        verb = "would write" if dry_run else "wrote"
        tell(f"{verb} {path} ({format}, {len(edits)} active edits)")
        if not dry_run:
            _tell_how_to_serve(path, format, editor.model.name_or_path or "")


def _export_adapter(options: EditorOptions, adapter: Path, path: Path, format: "Format", *, dry_run: bool) -> None:
    """Export a trained adapter of the base that it names, or of ``--model``."""
    from roselora.serving.edit_export import export_adapter, require_exportable

    base = base_of_adapter(options, adapter)
    require_exportable(1, path, format, base)
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(adapter)):
        raise ModelError(f"{path} is within the adapter's own folder, {adapter}; name a path outside of it.")
    if not dry_run:
        loaded = load_base(options, base)
        with working(f"writing {path}"):
            export_adapter(adapter, loaded, path, format)
    if options.json:
        print_json({"path": str(path), "format": format, "adapter": str(adapter), "dry_run": dry_run})
    else:
        tell(f"{'would write' if dry_run else 'wrote'} {path} ({format} of the adapter {adapter})")
        if not dry_run:
            _tell_how_to_serve(path, format, loaded.model.name_or_path or "")


def _tell_how_to_serve(path: Path, format: "Format", base: str) -> None:
    """Print the command that starts a server with what was written."""
    from roselora.serving.engines import Export
    from roselora.serving.start_lines import rank_warning, served_base, start_line

    if format == "patch":
        return
    tell(f"serve it: {start_line(Export(format, str(path), served_base(format, base)))}")
    if format == "lora" and (warning := rank_warning(path)):
        tell((warning, "yellow"))
