"""RoseLoRA: precise, reversible updates of language models.

Each name below is imported when it is first used, so ``import roselora`` itself loads no large library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roselora.adapter.config import RoseLoraConfig
    from roselora.adapter.density_check import verify
    from roselora.delta.overlay import Overlay
    from roselora.delta.sparse_delta import SparseDelta
    from roselora.editing.editor import Editor
    from roselora.editing.methods.rose.rose_settings import EditSettings
    from roselora.editing.request import EditRequest
    from roselora.errors import RoseLoraError
    from roselora.models.loading import load

__all__ = [
    "EditRequest",
    "EditSettings",
    "Editor",
    "Overlay",
    "RoseLoraConfig",
    "RoseLoraError",
    "SparseDelta",
    "load",
    "verify",
]

_HOMES = {
    "EditRequest": "roselora.editing.request",
    "EditSettings": "roselora.editing.methods.rose.rose_settings",
    "Editor": "roselora.editing.editor",
    "Overlay": "roselora.delta.overlay",
    "RoseLoraConfig": "roselora.adapter.config",
    "RoseLoraError": "roselora.errors",
    "SparseDelta": "roselora.delta.sparse_delta",
    "load": "roselora.models.loading",
    "verify": "roselora.adapter.density_check",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'roselora' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
