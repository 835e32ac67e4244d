"""``roselora widen``: a copy of a model with more MLP neurons, which edits take before the model's own."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from roselora.cli.console import print_json, tell, working
from roselora.cli.device_options import DtypeOption
from roselora.cli.path_options import PATH
from roselora.cli.stores import DryRunOption, JsonOption
from roselora.errors import ModelError


def widen(
    model: Annotated[str, typer.Argument(help="demo, a folder, a .gguf file or a hub id.")],
    path: Annotated[Path, typer.Argument(**PATH, help="A new or empty folder.")],
    neurons: Annotated[
        int,
        typer.Option(
            min=1, help="How many neurons each MLP gets. GGUF's formats want its whole width to be a multiple of 256."
        ),
    ] = 256,
    dtype: DtypeOption = "auto",
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Write a copy of a model that has room for many edits: more neurons in every MLP, all zero.

    It answers as the model does. An edit takes the least important neurons, one for each token of its answer, so it
    takes these first, and the model loses none of its own.

    Example: roselora widen demo wider/ --neurons 256
    """
    from roselora.editing.store.store_folder import require_outside_stores
    from roselora.models.loading import load
    from roselora.models.model_saving import save_atomically
    from roselora.models.wider_mlps import widen as widen_mlps
    from roselora.serving.edit_export import require_exportable
    from roselora.serving.merged_folder import write_merged

    require_outside_stores(path)
    require_exportable(1, path, "model", model)
    with working(f"loading {model}"):
        loaded = load(model, dtype=dtype)
    before = loaded.model.num_parameters()
    widen_mlps(loaded.model, neurons)
    after = loaded.model.num_parameters()

    def write(folder: Path) -> None:
        if not write_merged(loaded.model, loaded.tokenizer, None, folder):
            raise ModelError(f"{path} was read back, and is not the wider model; nothing is kept.")
        (folder / "params.json").unlink(missing_ok=True)  # Mistral's own config, which is that of the base

    if not dry_run:
        with working(f"writing {path}"):
            save_atomically(path, write)
    if json:
        print_json({"path": str(path), "parameters": after, "parameters_before": before, "dry_run": dry_run})
    else:
        verb = "would write" if dry_run else "wrote"
        tell(f"{verb} {path}: {after:,} parameters, {before:,} before")
        if not dry_run:
            tell(f"edit it: roselora edit {shlex.quote(os.path.join('.', path))} --prompt ... --target ...")
