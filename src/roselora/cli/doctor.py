"""``roselora doctor``: versions, device, caches, and the state of the store."""

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

from roselora.cli.console import print_json, tell
from roselora.cli.stores import DEFAULT_STORE, JsonOption, StoreOption, open_store
from roselora.errors import RoseLoraError

PACKAGES = ("roselora", "torch", "transformers", "peft", "accelerate", "safetensors", "numpy")


def doctor(store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """Show what is installed, the device, where the caches are, and whether the store is intact.

    Exits with 1 if the store has a serious problem.
    """
    report = {"versions": _versions(), "machine": _machine(), "caches": _caches(), "store": _store(store)}
    if json:
        print_json(report)
    else:
        for title, rows in report.items():
            tell((title, "bold"))
            for name, value in rows.items():
                tell(f"  {name}: {value}")
    if report["store"].get("serious"):
        raise typer.Exit(1)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def _machine() -> dict[str, Any]:
    import torch

    from roselora.models.devices import device_for, device_name

    used = device_name(device_for())
    return {"platform": platform.platform(), "device": used, "threads": torch.get_num_threads()}


def _caches() -> dict[str, Any]:
    from roselora.models.demo_model import demo_model_is_ready
    from roselora.models.pypi_models import models_folder

    folder = models_folder()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return {
        "models": str(folder),
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
        "base": str(base),
        "edits": f"{sum(edit.active for edit in edits)} active of {len(edits)}",
        "state": "; ".join(problem.what for problem in problems) or "whole",
        "serious": serious,
    }
