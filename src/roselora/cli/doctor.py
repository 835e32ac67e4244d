"""``roselora doctor``: versions, extras, devices, caches with their sizes, and the state of the store."""

import os
import platform
import shutil
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

from roselora.cli.console import print_json, tell
from roselora.cli.installed_extras import extras
from roselora.cli.stores import DEFAULT_STORE, JsonOption, StoreOption, open_store
from roselora.errors import ConfigError, RoseLoraError

PACKAGES = ("roselora", "torch", "transformers", "peft", "accelerate", "safetensors", "numpy")
DTYPES = ("float32", "bfloat16", "float16")
CACHES = {
    "models": "downloaded models; deleting the folder frees it, and they are downloaded again when they are needed",
    "ordinary": "what models' neurons do in ordinary text; deleting it makes the next edit of each model measure anew",
    "covariance": "what ROME, MEMIT and AlphaEdit measured in a text; deleting it makes them measure anew",
    "conformance": "PEFT's own tests; deleting it makes `make conformance` download them again",
}
"""The folders under `cache_home`, and what comes of deleting them."""


def doctor(store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """Show what is installed, which devices and dtypes work, what the caches take, and whether the store is intact.

    Exits with 1 if the store has a serious problem.
    """
    report = {
        "versions": _versions(),
        "extras": extras(),
        "machine": _machine(),
        "caches": _caches(),
        "store": _store(store),
    }
    if json:
        print_json(report)
    else:
        for title, rows in report.items():
            tell((title, "bold"))
            for name, value in rows.items():
                tell(f"  {name}: {_line(value)}")
    if report["store"].get("serious"):
        raise typer.Exit(1)


def _line(value: Any) -> str:
    """A value in one line of text."""
    if isinstance(value, dict):
        return f"{value['megabytes']} MB in {value['folder']}: {value['about']}"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def _machine() -> dict[str, Any]:
    import torch

    from roselora.models.devices import device_for, device_name, known_devices, require_dtype

    def dtypes(device: torch.device) -> list[str]:
        working = []
        for name in DTYPES:
            with suppress(ConfigError):
                require_dtype(getattr(torch, name), device)
                working.append(name)
        return working

    return {
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "device": device_name(device_for()),
        **{f"dtypes of {device}": dtypes(device) for device in known_devices()},
    }


def _caches() -> dict[str, Any]:
    from roselora.models.demo_model import demo_model_is_ready
    from roselora.models.pypi_models import cache_home, models_folder

    folder, home = models_folder(), cache_home()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return {
        **{
            name: {"folder": str(home / name), "megabytes": _megabytes(home / name), "about": about}
            for name, about in CACHES.items()
        },
        "demo model": "ready" if demo_model_is_ready() else "not fetched yet (98 MB)",
        "free disk, GB": round(shutil.disk_usage(nearest).free / 1e9, 1),
        "hub offline": os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"),
    }


def _store(folder: Path) -> dict[str, Any]:
    if not folder.exists():
        return {"folder": str(folder), "state": "there is none"}
    try:
        opened = open_store(folder)
        problems = opened.verify()
        base, edits = opened.base, opened.edits()
    except RoseLoraError as error:
        return {"folder": str(folder), "state": str(error), "serious": True}
    serious = any(not problem.harmless for problem in problems)
    return {
        "folder": str(folder),
        "megabytes": _megabytes(folder),
        "base": str(base),
        "edits": f"{sum(edit.active for edit in edits)} active of {len(edits)}",
        "state": "; ".join(problem.what for problem in problems) or "whole",
        "serious": serious,
    }


def _megabytes(folder: Path) -> float:
    """The size of all files in a folder."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)
