"""Exports the edited model or its edits for other programs, and reads the export back before it counts as done."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from peft import TaskType
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.combination import combine
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import ConfigError, EditError, ModelError
from roselora.files import user_path
from roselora.models.checkpoint_names import in_checkpoint
from roselora.models.model_saving import require_new_path, save_atomically, write_model
from roselora.models.saved_weights import holds_model
from roselora.serving.lora_folder import export_lora, import_lora
from roselora.serving.weight_patch import export_patch

Format = Literal["model", "lora", "patch"]


def export_edits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    overlay: Overlay,
    deltas: Sequence[SparseDelta],
    path: Path,
    format: Format,
) -> None:
    """Write the edited model, or its edits alone, to ``path``. It appears there once it has been read back.

    Args:
        model: the edited model.
        tokenizer: its tokenizer, which is written beside a model.
        overlay: what holds the deltas in the model's weights.
        deltas: the active edits, in commit order.
        path: where to write.
        format: "model" for a folder with the whole model, "lora" for a LoRA adapter folder, "patch" for a patch file.

    Raises:
        ConfigError: there is no such format.
        EditError: there are no edits to write, or what was read back differs.
        ModelError: something is at ``path`` already, it is within the base model's folder, or the disk failed.
    """
    require_exportable(len(deltas), path, format, model.name_or_path)

    def write(staged: Path) -> None:
        if format == "model":
            write_model(model, tokenizer, staged)
            same = holds_model(staged, model)
        elif format == "lora":
            combined = combine(deltas)
            export_lora(combined, staged, base=model.name_or_path or None, task_type=TaskType.CAUSAL_LM)
            same = _same_products(combined, import_lora(staged, model))
        else:
            export_patch(_changed(model, overlay), staged)
            same = _holds_patch(staged, _changed(model, overlay))
        if not same:
            raise EditError(f"What was read back from {path} is not what was written, so it was deleted; try again.")

    save_atomically(path, write)


def require_exportable(edits: int, path: Path, format: Format, base: str | None) -> None:
    """Refuse an export of no edits, and a path that exists or lies within the base model's folder.

    Args:
        edits: how many active edits there are.
        path: where to export to.
        format: as in `export_edits`.
        base: the name of the base model; it matters if it is a folder.

    Raises:
        ConfigError: there is no such format.
        EditError: there are no edits to write.
        ModelError: something is at ``path`` already, or it is within the base model's folder.
    """
    if format not in get_args(Format):
        raise ConfigError(f"format is {format!r}; it must be one of {', '.join(get_args(Format))}.")
    if format != "model" and not edits:
        raise EditError("There is no active edit to export.")
    target, folder = require_new_path(path), Path(os.path.realpath(user_path(base or "")))
    if format == "patch" and target.is_dir():
        raise ModelError(f"{path} is a folder, and a patch is a file; name a new file.")
    if base and os.path.isdir(folder) and target.is_relative_to(folder):
        raise ModelError(f"{path} is within the folder of the base model, {base}; name a path outside of it.")


def _same_products(first: SparseDelta, second: SparseDelta) -> bool:
    """Whether two deltas change the same entries by the same values, up to rounding."""

    def entries(delta: SparseDelta) -> dict[str, tuple[Tensor, Tensor]]:
        return {weight.name: weight.expand() for weight in delta.weights}

    ours, theirs = entries(first), entries(second)
    return ours.keys() == theirs.keys() and all(
        torch.equal(index, theirs[name][0]) and torch.allclose(value, theirs[name][1], rtol=1e-5, atol=1e-9)
        for name, (index, value) in ours.items()
    )


def _changed(model: PreTrainedModel, overlay: Overlay) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, base and edited weight of what is changed, as the checkpoint has it; one weight of the model at a time."""
    for name, base, edited in overlay.changed():
        olds, news = (in_checkpoint(model, {name: weight}) for weight in (base, edited))
        yield from ((new, olds[new], news[new]) for new in news)


def _holds_patch(path: Path, changed: Iterable[tuple[str, Tensor, Tensor]]) -> bool:
    """Whether a patch file makes the edited weights of those of the base, and these of those again."""
    with safe_open(path, framework="pt") as saved:
        names = set(saved.keys())
        for name, base, edited in changed:
            now = base.flatten().cpu().clone()
            if f"{name}.index" in names:
                index = saved.get_tensor(f"{name}.index").long()
                if not torch.equal(now[index], saved.get_tensor(f"{name}.old_value")):
                    return False
                now[index] = saved.get_tensor(f"{name}.value")
            if not torch.equal(now, edited.flatten().cpu()):
                return False
    return True
