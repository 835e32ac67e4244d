"""What the active edits make of the model, for other programs; read back and compared before it is called done."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from peft import TaskType
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.combination import combine
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import ConfigError, EditError, ModelError
from roselora.files import user_path
from roselora.models.model_saving import require_free, save_wholly, write_model
from roselora.models.saved_weights import holds_model
from roselora.serving.lora_folder import export_lora, import_lora
from roselora.serving.weight_patch import export_patches

Format = Literal["model", "lora", "patch"]


def export_edits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    deltas: Sequence[SparseDelta],
    path: Path,
    format: Format,
) -> None:
    """Write the edited model, or its edits alone, to ``path``, where it appears once it has been read back.

    Raises:
        ConfigError: there is no such format.
        EditError: there are no edits to write, or what was read back differs.
        ModelError: something is at ``path`` already, it is within the base model's folder, or the disk refused.
    """
    require_exportable(len(deltas), path, format, model.name_or_path)

    def write(made: Path) -> None:
        if format == "model":
            write_model(model, tokenizer, made)
            same = holds_model(made, model)
        elif format == "lora":
            combined = combine(deltas)
            export_lora(combined, made, base=model.name_or_path or None, task_type=TaskType.CAUSAL_LM)
            same = _same_products(combined, import_lora(made, model))
        else:
            export_patches(deltas, made)
            same = _is_patch_of(combine(deltas), made)
        if not same:
            raise EditError(f"What was read back for {path} is not what was written, so it was not kept; try again.")

    save_wholly(path, write)


def require_exportable(edits: int, path: Path, format: Format, base: str | None) -> None:
    """Refuse an export of nothing, and a place that is taken or where it would be a part of something else.

    Args:
        edits: how many there are.
        path: where it shall be.
        format: as what.
        base: the folder of the base model; any other name of it is in nobody's way.

    Raises:
        ConfigError: there is no such format.
        EditError: there are no edits to write.
        ModelError: there is something, or it is within the base model's folder.
    """
    if format not in get_args(Format):
        raise ConfigError(f"format is {format!r}; it must be one of {', '.join(get_args(Format))}.")
    if format != "model" and not edits:
        raise EditError("There is no active edit to export.")
    place, folder = require_free(path), Path(os.path.realpath(user_path(base or "")))
    if format == "patch" and place.is_dir():
        raise ModelError(f"{path} is a folder, and a patch is a file; name a new file.")
    if base and os.path.isdir(folder) and place.is_relative_to(folder):
        raise ModelError(f"{path} is within the folder of the base model, {base}; name a place outside of it.")


def _same_products(first: SparseDelta, second: SparseDelta) -> bool:
    def entries(delta: SparseDelta) -> dict[str, tuple[Tensor, Tensor]]:
        return {weight.name: weight.expand() for weight in delta.weights}

    ours, theirs = entries(first), entries(second)
    return ours.keys() == theirs.keys() and all(
        torch.equal(index, theirs[name][0]) and torch.allclose(value, theirs[name][1], rtol=1e-5, atol=1e-9)
        for name, (index, value) in ours.items()
    )


def _is_patch_of(delta: SparseDelta, path: Path) -> bool:
    with safe_open(path, framework="pt") as saved:
        for weight in delta.weights:
            index, value = weight.expand()
            if not torch.equal(saved.get_tensor(f"{weight.name}.index").long(), index):
                return False
            if not torch.allclose(saved.get_tensor(f"{weight.name}.value"), value, rtol=1e-4, atol=1e-7):
                return False
    return True
