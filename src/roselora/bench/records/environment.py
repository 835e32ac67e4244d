"""The machine and the library versions that a result was measured with."""

import platform
from importlib import metadata
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, device and threads, as a report shows them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"processor": name, "device": device.type, "threads": torch.get_num_threads()}


def versions(*more: str) -> dict[str, str]:
    """Of roselora and the libraries that its results depend on, with ``more`` by name."""
    return {name: metadata.version(name) for name in ("roselora", "torch", "transformers", "peft", *more)}
