"""What was computed once for a model and is kept in a file, under the hash of everything that it depends on."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from roselora.errors import ModelError
from roselora.files import write_atomically
from roselora.models.packages import home


def cache_folder(name: str) -> Path:
    """Where things of one kind are kept: ``$ROSELORA_HOME/name``, by default ``~/.cache/roselora/name``."""
    return home() / name


def cache_file(cache: Path, kind: str, about: Mapping[str, object]) -> Path:
    """The file in which tensors are kept that depend on nothing but ``about``."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return cache / f"{kind}-{digest[:32]}.safetensors"


def load_kept(place: Path, *names: str) -> dict[str, Tensor] | None:
    """The tensors kept in a file, or None if they are not there or damaged, for then they are made anew."""
    try:
        kept = load_file(place)
    except (OSError, SafetensorError):
        return None
    return kept if kept.keys() >= set(names) else None


def keep(place: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors for :func:`load_kept`, wholly or not at all.

    Raises:
        ModelError: the disk refused.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}))
    except OSError as error:
        raise ModelError(f"{place} could not be written ({error.strerror or error}): name another cache.") from error
