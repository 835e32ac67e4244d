"""What the active edits make of the model, for other programs; read back and compared before it is called done."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.combine import combine
from roselora.delta.lora import export_lora, import_lora
from roselora.delta.patches import export_patches
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import EditError, ModelError
from roselora.models.saved import SavedWeights
from roselora.models.saving import require_free, save

Format = Literal["model", "lora", "patch"]


def export_edits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    deltas: Sequence[SparseDelta],
    path: Path,
    format: Format,
) -> Path:
    """Write the edited model, or its edits alone, to ``path``.

    Raises:
        EditError: there are no edits to write, or what was read back differs.
        ModelError: something is at ``path`` already, or the disk refused.
    """
    if format != "model" and not deltas:
        raise EditError("There is no active edit to export.")
    require_free(path)
    try:
        if format == "model":
            save(model, tokenizer, path)
            same = _is_saved(model, path)
        elif format == "lora":
            combined = combine(deltas)
            export_lora(combined, path)
            same = _same_products(combined, import_lora(path, model))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            export_patches(deltas, path)
            same = _is_patch_of(combine(deltas), path)
    except OSError as error:
        raise ModelError(f"{path} could not be written ({error.strerror or error}).") from error
    if not same:
        raise EditError(f"What was read back from {path} is not what was written; do not use it.")
    return path


def _is_saved(model: PreTrainedModel, folder: Path) -> bool:
    state, saved = model.state_dict(), SavedWeights(folder)
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    complete = set(state) - set(saved) <= tied
    return complete and all(torch.equal(tensor, state[name].cpu()) for name, tensor in saved.items())


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
