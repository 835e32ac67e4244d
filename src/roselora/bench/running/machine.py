"""What a measurement was made on."""

import platform
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, device and threads, as a report shows them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"processor": name, "device": device.type, "threads": torch.get_num_threads()}
