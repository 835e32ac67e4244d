"""What was computed once for a model and is kept in a file, under the hash of everything that it depends on."""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from roselora.errors import ModelError
from roselora.files import sha256_tensor, write_atomically
from roselora.models.pypi_models import home

SHA256 = "sha256"
"""Under what name a file's header has the hash of its tensors."""

VERSIONS = ("roselora", "torch", "transformers")
"""Of what computes: another one may give other bytes."""


def cache_folder(name: str) -> Path:
    """Where things of one kind are kept: ``$ROSELORA_HOME/name``, by default ``~/.cache/roselora/name``."""
    return home() / name


def cache_file(cache: Path, kind: str, about: Mapping[str, object], device: torch.device) -> Path:
    """The file in which tensors are kept that depend on ``about``, the device that computed them, and the versions.

    A model's fingerprint, among ``about``, covers its dtype.
    """
    everything = {**about, "device": device.type, "versions": {name: metadata.version(name) for name in VERSIONS}}
    digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    return cache / f"{kind}-{digest[:32]}.safetensors"


def load_cached(place: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor] | None:
    """The tensors kept in a file, or None if they are not there, for then they are made anew.

    So they are if any is missing, not of its shape, not finite, or not of the hash that they were written with.
    """
    try:
        with safe_open(place, framework="pt") as file:
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            written = (file.metadata() or {}).get(SHA256)
    except (OSError, SafetensorError):
        return None
    if {name: tuple(tensor.shape) for name, tensor in kept.items()} != shapes or written != _sha256(kept):
        return None
    return kept if all(bool(tensor.isfinite().all()) for tensor in kept.values()) else None


def save_cached(place: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors for :func:`load_cached`, wholly or not at all.

    Raises:
        ModelError: the disk refused.
    """
    kept = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, save(kept, {SHA256: _sha256(kept)}))
    except OSError as error:
        raise ModelError(f"{place} could not be written ({error.strerror or error}): name another cache.") from error


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Over names, dtypes, shapes and bytes."""
    hashes = {name: sha256_tensor(tensor) for name, tensor in tensors.items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
