"""A saved model's weights, read one by one, so that two large models can be compared in little memory."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from roselora.errors import ModelError


class SavedWeights(Mapping[str, Tensor]):
    """The weights in a model folder by name; each is read from its file when it is asked for.

    Args:
        folder: what ``save_pretrained`` has written, in one file or in several.

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
                raise ModelError(f"{file} cannot be read as safetensors ({error}); save the model again.") from error
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
