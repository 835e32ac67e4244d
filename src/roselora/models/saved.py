"""A saved model's weights, read one by one, so that two large models can be compared in little memory."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from roselora.errors import ModelError
from roselora.models.loading import DEMO

INDEX = "model.safetensors.index.json"


class SavedWeights(Mapping[str, Tensor]):
    """The weights in a model folder by name; each is read from its file when it is asked for.

    Args:
        source: ``demo``, or a folder that ``save_pretrained`` has written.

    Raises:
        ModelError: there are no safetensors, or they cannot be read.
    """

    def __init__(self, source: str) -> None:
        if source == DEMO:
            from roselora.models.demo import demo_model_folder

            folder = demo_model_folder()
        else:
            folder = Path(source)
        self._files: dict[str, Path] = {}
        for file in self._shards(folder):
            try:
                with safe_open(file, framework="pt") as saved:
                    self._files |= dict.fromkeys(saved.keys(), file)
            except (OSError, SafetensorError) as error:
                raise ModelError(f"{file} cannot be read as safetensors ({error}); save the model again.") from error

    @staticmethod
    def _shards(folder: Path) -> list[Path]:
        if (folder / INDEX).is_file():
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            return sorted({folder / name for name in index["weight_map"].values()})
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ModelError(f"There are no safetensors in {folder}; name a model's folder.")
        return files

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self._files[name], framework="pt") as saved:
            tensor: Tensor = saved.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
