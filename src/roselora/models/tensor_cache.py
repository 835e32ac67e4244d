"""Tensors that were computed for a model, cached in files that are named by the hash of all they depend on."""

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
from roselora.models.pypi_models import cache_home

SHA256 = "sha256"
"""The key in a file's metadata of the hash of its tensors."""

VERSIONS = ("roselora", "torch", "transformers")
"""The packages whose versions are hashed too: another version may compute other values."""


def cache_folder(name: str) -> Path:
    """The folder of one kind of cached tensors: ``$ROSELORA_HOME/name``, by default ``~/.cache/roselora/name``."""
    return cache_home() / name


def cache_file(cache: Path, kind: str, about: Mapping[str, object], device: torch.device) -> Path:
    """The file of tensors that depend on ``about``, on the device that computes them, and on package versions.

    The dtype of a model is covered by its fingerprint in ``about``.
    """
    everything = {**about, "device": device.type, "versions": {name: metadata.version(name) for name in VERSIONS}}
    digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    return cache / f"{kind}-{digest[:32]}.safetensors"


def load_cached(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor] | None:
    """The tensors in a cached file, or None if they must be computed again.

    They must be if the file is missing, a tensor has another shape or is not finite, or the hash does not match.
    """
    try:
        with safe_open(path, framework="pt") as file:
            cached = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            written = (file.metadata() or {}).get(SHA256)
    except (OSError, SafetensorError):
        return None
    if {name: tuple(tensor.shape) for name, tensor in cached.items()} != shapes or written != _sha256(cached):
        return None
    return cached if all(bool(tensor.isfinite().all()) for tensor in cached.values()) else None


def save_cached(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors for :func:`load_cached`, completely or not at all.

    Raises:
        ModelError: the file cannot be written.
    """
    cached = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(cached, {SHA256: _sha256(cached)}))
    except OSError as error:
        raise ModelError(f"{path} could not be written ({error.strerror or error}): name another cache.") from error


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """The hash of names, dtypes, shapes and bytes."""
    hashes = {name: sha256_tensor(tensor) for name, tensor in tensors.items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
