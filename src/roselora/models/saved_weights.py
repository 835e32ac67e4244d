"""The weights of a saved model, read one by one, so that two large models can be compared in little memory."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from roselora.errors import ModelError, reason_of
from roselora.models.library_calls import as_model_error


class SavedWeights(Mapping[str, Tensor]):
    """The weights in a model folder by name; each is read from its file on access.

    Args:
        folder: written by ``save_pretrained``, as one file or several.

    Raises:
        ModelError: there are no safetensors, or they cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for file in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(file, framework="pt") as saved:
                    self._files |= dict.fromkeys(saved.keys(), file)
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"{file} cannot be read as safetensors ({reason_of(error)}); save the model again."
                ) from error
        if not self._files:
            raise ModelError(f"There are no safetensors in {folder}; name a model's folder.")

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self._files[name], framework="pt") as saved:
            tensor: Tensor = saved.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def holds_model(folder: Path, model: PreTrainedModel) -> bool:
    """Whether a folder contains exactly the weights of a model.

    For some architectures transformers saves weights under other names, or split or joined. Then the folder is loaded
    for the comparison, which takes the memory of the model once more.

    Raises:
        ModelError: the folder cannot be read.
    """
    state, saved = model.state_dict(), SavedWeights(folder)
    tied = set(model.all_tied_weights_keys)
    if set(saved) <= set(state) and set(state) - set(saved) <= tied:
        return all(torch.equal(tensor, state[name].cpu()) for name, tensor in saved.items())
    with as_model_error(f"{folder} could not be read back", "check the disk"):
        loaded = type(model).from_pretrained(folder, dtype=model.dtype, use_safetensors=True, local_files_only=True)
    again = loaded.state_dict()
    return again.keys() == state.keys() and all(torch.equal(again[name], state[name].cpu()) for name in state)
