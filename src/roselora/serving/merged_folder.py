"""Writes an edited model as a folder that differs from its base's in the changed weights alone.

Where the base is a folder, or a hub model in the cache, its files are copied byte for byte, and the changed tensors are
written into the copies. Servers read more of a folder than transformers writes: licences, templates, processors, maps
of special tokens. And what transformers 5 writes, some of them cannot read.

Otherwise (a GGUF file, or weights that were loaded in another dtype) transformers writes the folder, and `older_names`
adds what programs look for that know nothing of its version 5.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import CHAT_TEMPLATE_DIR

from roselora.files import PICKLE_SUFFIXES, dtype_name
from roselora.models.model_saving import write_model
from roselora.models.older_names import add_older_names
from roselora.models.pypi_models import models_folder
from roselora.models.saved_weights import holds_model

WEIGHT_SUFFIXES = PICKLE_SUFFIXES | {".safetensors", ".gguf", ".h5", ".msgpack", ".onnx", ".ot"}

_KINDS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


class _Place(NamedTuple):
    """Where a safetensors file has a tensor.

    Attributes:
        file: the file's name.
        kind: the tensor's dtype, as safetensors names it, and its sizes.
        start: the offset of its first byte in the file.
    """

    file: str
    kind: tuple[str, list[int]]
    start: int


def write_merged(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, changed: Mapping[str, Tensor] | None, folder: Path
) -> bool:
    """Write an edited model to a new folder, and say whether what is then read there is the model.

    Args:
        model: with the edits in its weights.
        tokenizer: its tokenizer.
        changed: the edited weights by their names in the checkpoint, if each is stored by itself there.
        folder: where to write.

    Raises:
        ModelError: what was written cannot be read.
        OSError: a file cannot be read or written.
    """
    base = base_folder(model.name_or_path or "")
    if (
        base is not None
        and changed is not None
        and _written_into_copy(base, changed, folder)
        and holds_model(folder, model)
    ):
        if base.is_relative_to(models_folder()):  # which transformers has written
            add_older_names(folder)
        return True
    # There is no such folder, its checkpoint joins weights, they are of another dtype, or the model in memory is not
    # that base any more.
    shutil.rmtree(folder, ignore_errors=True)
    write_model(model, tokenizer, folder)
    if base is not None:
        _copy(base, folder)
    return holds_model(folder, model)


def _written_into_copy(base: Path, changed: Mapping[str, Tensor], folder: Path) -> bool:
    """Copy the base and write the changed weights into the copy, if its files have them in the same dtype and shape."""
    places = _places(base)
    kinds = {name: (_KINDS[dtype_name(weight.dtype)], list(weight.shape)) for name, weight in changed.items()}
    if not places or any(name not in places or places[name].kind != kind for name, kind in kinds.items()):
        return False
    folder.mkdir()
    _copy(base, folder, {place.file for place in places.values()})
    for name, weight in changed.items():
        _overwrite(folder, places[name], weight)
    return True


def stored_names(model: PreTrainedModel) -> Collection[str]:
    """The names of the weights in the files of the model's base; none if it is not a folder with safetensors."""
    base = base_folder(model.name_or_path or "")
    return [] if base is None else _places(base).keys()


def base_folder(name: str) -> Path | None:
    """The folder with the files of a base model, if it is one: itself, or that in the hub's cache."""
    if not name or Path(name).is_dir():
        return Path(name) if name else None
    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # a path, such as that of a GGUF file
        return None
    return Path(config).parent if isinstance(config, str) else None


def _copy(base: Path, folder: Path, weights: Collection[str] = ()) -> None:
    """Copy what the folder lacks: the weights that are named, their index, and all that is not weights.

    Of folders within the base only that of further chat templates; others hold the weights in other forms.
    """
    for file in base.iterdir():
        other = file.suffix.lower() not in WEIGHT_SUFFIXES and not file.name.endswith(".index.json")
        wanted = other or file.name in weights or (weights and file.name == SAFE_WEIGHTS_INDEX_NAME)
        if wanted and file.is_file() and not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)
    if (base / CHAT_TEMPLATE_DIR).is_dir() and not (folder / CHAT_TEMPLATE_DIR).exists():
        shutil.copytree(base / CHAT_TEMPLATE_DIR, folder / CHAT_TEMPLATE_DIR)


def _places(base: Path) -> dict[str, _Place]:
    """Where the weights that transformers reads are: in the file of the usual name, or in those that an index names.

    There are none if the index names files in other folders: what is written must be within the copy.
    """
    index = base / SAFE_WEIGHTS_INDEX_NAME
    files = {SAFE_WEIGHTS_NAME}
    if not (base / SAFE_WEIGHTS_NAME).is_file():
        files = set(json.loads(index.read_bytes())["weight_map"].values()) if index.is_file() else set()
    if any(Path(file).name != file for file in files):
        return {}
    found = {}
    for file in files:
        with (base / file).open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            start = 8 + length + entry["data_offsets"][0]
            found[name] = _Place(file, (entry["dtype"], entry["shape"]), start)
    return found


def _overwrite(folder: Path, place: _Place, weight: Tensor) -> None:
    with (folder / place.file).open("r+b") as file:
        file.seek(place.start)
        file.write(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
