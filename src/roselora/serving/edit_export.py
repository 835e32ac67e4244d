"""Exports the edited model or its edits for other programs, and reads the export back before it counts as done."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from gguf import GGUFReader
from peft import TaskType
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.combination import combine
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import ConfigError, EditError, ModelError, UnsupportedError
from roselora.files import user_path
from roselora.models.checkpoint_names import in_checkpoint
from roselora.models.loading import LoadedModel
from roselora.models.model_saving import require_new_path, save_atomically
from roselora.serving.gguf_adapter import export_gguf_lora, holds_gguf_lora
from roselora.serving.gguf_model import export_gguf, holds_gguf, require_gguf_base
from roselora.serving.lora_folder import export_lora, import_lora
from roselora.serving.merged_folder import stored_names, write_merged
from roselora.serving.mlx_adapter import export_mlx, holds_mlx
from roselora.serving.weight_patch import export_patch

Format = Literal["model", "lora", "gguf", "gguf-lora", "mlx", "patch"]

FILES = {"gguf": "a GGUF model", "gguf-lora": "a GGUF adapter", "patch": "a patch"}
"""The formats that are one file, and what they are called."""

ENDINGS = {".gguf": "gguf or gguf-lora", ".safetensors": "patch"}
"""How names of files end, and the formats that they may be in."""


@dataclass(frozen=True)
class Edited:
    """An edited model, and its edits.

    Attributes:
        model: with the edits in its weights.
        tokenizer: written beside a whole model.
        overlay: what holds the edits in the weights.
        deltas: the active edits, in commit order.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    overlay: Overlay
    deltas: Sequence[SparseDelta]


def export_edits(edited: Edited, path: Path, format: Format) -> None:
    """Write the edited model, or its edits alone, to ``path``. It appears there once it has been read back.

    Args:
        edited: the model and its edits.
        path: where to write.
        format: "model" for a folder with the whole model, "lora" for a LoRA adapter folder, "gguf" for a copy of the
            base's GGUF file with the edited weights, "gguf-lora" for a LoRA adapter in a GGUF file, "mlx" for
            an adapter folder of mlx-lm, "patch" for a patch file.

    Raises:
        ConfigError: there is no such format.
        EditError: there are no edits to write, or what was read back differs.
        ModelError: something is at ``path`` already, it is within the base model's folder, the disk failed, or the base
            is not a GGUF file, of which "gguf" makes a copy.
        UnsupportedError: the format does not know such a model, or an edited layer.
    """
    require_exportable(len(edited.deltas), path, format, edited.model.name_or_path)

    def write(staged: Path) -> None:
        if not _WRITERS[format](edited, staged):
            raise EditError(f"What was read back from {path} is not what was written, so it was deleted; try again.")

    save_atomically(path, write)


def export_adapter(folder: Path, loaded: LoadedModel, path: Path, format: Format) -> None:
    """Write a trained LoRA adapter, or the model with it in its weights, in any format.

    Args:
        folder: a plain LoRA adapter in PEFT's form.
        loaded: its base model, whose weights are those of the base again afterwards.
        path, format: as in `export_edits`, whose errors are raised too.

    Raises:
        FileFormatError, UnsupportedError, ConfigError, NonFiniteError: as `import_lora`.
    """
    delta, overlay = import_lora(folder, loaded.model), Overlay(loaded.model)
    overlay.apply("adapter", delta)
    try:
        export_edits(Edited(loaded.model, loaded.tokenizer, overlay, [delta]), path, format)
    finally:
        overlay.remove("adapter")


def require_exportable(edits: int, path: Path, format: Format, base: str | None) -> None:
    """Refuse an export of no edits, and a path that exists or lies within the base model's folder.

    Args:
        edits: how many active edits there are.
        path: where to export to.
        format: as in `export_edits`.
        base: the name of the base model; it matters if it is a folder.

    Raises:
        ConfigError: there is no such format, or the path ends as a file of another one does.
        EditError: there are no edits to write.
        ModelError: something is at ``path`` already, or it is within the base model's folder.
    """
    if format not in get_args(Format):
        raise ConfigError(f"format is {format!r}; it must be one of {', '.join(get_args(Format))}.")
    if format != "model" and not edits:
        raise EditError("There is no active edit to export.")
    target, folder = require_new_path(path), Path(os.path.realpath(user_path(base or "")))
    if format in FILES and target.is_dir():
        raise ModelError(f"{path} is a folder, and {FILES[format]} is a file; name a new file.")
    if format == "gguf":
        require_gguf_base(base)
    if base and os.path.isdir(folder) and target.is_relative_to(folder):
        raise ModelError(f"{path} is within the folder of the base model, {base}; name a path outside of it.")
    if format not in FILES and (meant := ENDINGS.get(path.suffix.lower())):
        raise ConfigError(
            f"{path} ends as a file does, and format {format} is a folder; give --format {meant}, or a folder."
        )


def _write_model(edited: Edited, path: Path) -> bool:
    changed: dict[str, Tensor] | None = None
    with contextlib.suppress(UnsupportedError):
        changed = {name: weight for name, _, weight in _changed(edited)}
    return write_merged(edited.model, edited.tokenizer, changed, path)


def _write_lora(edited: Edited, path: Path) -> bool:
    combined = combine(edited.deltas)
    export_lora(combined, path, base=edited.model.name_or_path or None, task_type=TaskType.CAUSAL_LM)
    return _same_products(combined, import_lora(path, edited.model))


def _write_gguf(edited: Edited, path: Path) -> bool:
    base = GGUFReader(require_gguf_base(edited.model.name_or_path))
    weights = {name: weight for name, _, weight in edited.overlay.changed()}
    export_gguf(weights, path, edited.model, base)
    return holds_gguf(path, weights, edited.model, base)


def _write_gguf_lora(edited: Edited, path: Path) -> bool:
    combined = combine(edited.deltas)
    export_gguf_lora(combined, path, edited.model)
    return holds_gguf_lora(path, combined, edited.model)


def _write_mlx(edited: Edited, path: Path) -> bool:
    combined = combine(edited.deltas)
    export_mlx(combined, path, edited.model)
    return holds_mlx(path, combined)


def _write_patch(edited: Edited, path: Path) -> bool:
    export_patch(_changed(edited), path)
    return _holds_patch(path, _changed(edited))


_WRITERS: dict[Format, Callable[[Edited, Path], bool]] = {
    "model": _write_model,
    "lora": _write_lora,
    "gguf": _write_gguf,
    "gguf-lora": _write_gguf_lora,
    "mlx": _write_mlx,
    "patch": _write_patch,
}
"""What writes each format, and says whether what it then reads there is what it wrote."""


def _same_products(first: SparseDelta, second: SparseDelta) -> bool:
    """Whether two deltas change the same entries by the same values, up to rounding."""

    def entries(delta: SparseDelta) -> dict[str, tuple[Tensor, Tensor]]:
        return {weight.name: weight.expand() for weight in delta.weights}

    ours, theirs = entries(first), entries(second)
    return ours.keys() == theirs.keys() and all(
        torch.equal(index, theirs[name][0]) and torch.allclose(value, theirs[name][1], rtol=1e-5, atol=1e-9)
        for name, (index, value) in ours.items()
    )


def _changed(edited: Edited) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, base and edited weight of what is changed, as the checkpoint has it; one weight of the model at a time."""
    return in_checkpoint(edited.model, edited.overlay.changed(), stored_names(edited.model))


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
