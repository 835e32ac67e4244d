"""Load a model and its tokenizer by name: the demo model, an encoder, a folder, a GGUF file or a hub id.

The hub is asked only for a hub id that is not cached.
"""

import os
import re
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.errors import ModelError
from roselora.files import PICKLE_SUFFIXES, user_path
from roselora.models.demo_model import demo_model_folder
from roselora.models.devices import AUTO, device_for, dtype_for, require_dtype
from roselora.models.encoder_models import ENCODERS
from roselora.models.library_calls import as_model_error, quiet_libraries
from roselora.models.pretrained import Pretrained, ReadOptions, is_gguf, read_folder, read_gguf, read_hub
from roselora.models.pypi_models import fetched_folder
from roselora.models.task_heads import CAUSAL_LM, TaskHead

DEMO = "demo"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, its tokenizer, which pads on the left, and the name that it was loaded by."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str


def load(
    source: str | os.PathLike[str],
    *,
    dtype: str | torch.dtype = AUTO,
    device: str | torch.device = "cpu",
    head: TaskHead = CAUSAL_LM,
    fetch: bool = True,
    quantized: bool = False,
) -> LoadedModel:
    """Load a model, a causal language model unless ``head`` says otherwise, with its tokenizer.

    The model is in eval mode with ``requires_grad`` as transformers sets it; the tokenizer pads on the left and has a
    pad token.

    Args:
        source: ``demo``, or for a classifier ``mpnet`` or ``minilm`` (each downloaded on first use); a folder written
            by ``save_pretrained``; a ``.gguf`` file; or a hub id. A `Path` is not a hub id, and ``./demo`` is a folder.
        dtype: torch's dtype or its name; ``auto`` is that of the checkpoint.
        device: torch's device or its name; ``auto`` is the accelerator if there is one.
        head: what the model computes: `models.task_heads.head_for` makes a classifier's, as ``mpnet`` and ``minilm``
            need, with new weights.
        fetch: whether a hub id may be downloaded; otherwise it is read from the cache only.
        quantized: whether the weights may be quantized; an adapter can be trained on them, but they cannot be edited.

    Raises:
        ConfigError: the device does not exist, or cannot compute in the dtype.
        ModelError: there is no such model, the hub cannot be reached, the weights are pickles, damaged, incomplete or
            quantized, the model is not of the kind that ``head`` needs, or it has no tokenizer.

    Example:
        >>> from roselora import load
        >>> loaded = load("model", dtype="bfloat16")  # a folder that save_pretrained wrote
        >>> loaded.model.dtype, loaded.tokenizer.padding_side
        (torch.bfloat16, 'left')
    """
    name = os.fspath(source)
    target = device_for(device)
    options = ReadOptions(dtype_for(dtype, target) or AUTO, head, quantized)
    with quiet_libraries(), as_model_error(f"{name} could not be loaded", "check that it is complete and readable"):
        model, tokenizer = _find_and_read(source, options, fetch)
    require_dtype(model.dtype, target)
    with as_model_error(
        f"{name} could not be moved to the device {target}", "free memory there, or name another device"
    ):
        model.to(target)  # type: ignore[arg-type]
    return LoadedModel(model, tokenizer, _lasting_name(source))


def _lasting_name(source: str | os.PathLike[str]) -> str:
    """The name that stays valid in every working folder: paths become absolute, other names stay as they are."""
    known = source == DEMO or source in ENCODERS
    path = user_path(source)
    return os.fspath(source) if known or not path.exists() else str(path.absolute())


def _find_and_read(source: str | os.PathLike[str], options: ReadOptions, fetch: bool) -> Pretrained:
    """Find what ``source`` names, and read it."""
    name = os.fspath(source)
    path = user_path(source)
    if not name:
        raise ModelError("the model's name is empty: name `demo`, a folder, a .gguf file or owner/model.")
    if source == DEMO:
        return read_folder(name, demo_model_folder(), options)
    if source in ENCODERS:
        return read_folder(name, fetched_folder(ENCODERS[name]), options)
    if path.is_dir():
        return read_folder(name, path, options)
    if is_gguf(path):
        return read_gguf(name, path, options)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ModelError(f"only safetensors are read, and {name} is a pickle: save the model as safetensors.")
    if path.is_file():
        raise ModelError(f"{name} is a file, but not a GGUF file: name the folder that holds the model.")
    if os.path.lexists(path):
        raise ModelError(f"{name} is a link to no file or folder: see where it points to, or name the model itself.")
    if isinstance(source, str) and HUB_ID.fullmatch(source) and path.suffix.lower() not in {".gguf", ".safetensors"}:
        return read_hub(source, options, fetch=fetch)
    raise ModelError(
        f"there is no file or folder {name}, nor is that a hub id: name `demo`, a folder, a .gguf file or owner/model."
    )
