"""The cost of a block of code: wall time, and peak memory beyond what was in use before it."""

import ctypes
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class ResourceUse:
    """Filled when the block ends; ``peak_bytes`` is 0 where it cannot be measured (neither CUDA nor Linux)."""

    seconds: float = 0.0
    peak_bytes: int = 0


@contextmanager
def measured(device: torch.device) -> Iterator[ResourceUse]:
    """Measure a block: on CUDA the allocator's peak, on Linux that of the resident memory.

    >>> with measured(torch.device("cpu")) as use:
    ...     _ = torch.ones(1000).sum()
    >>> use.seconds > 0
    True
    """
    result = ResourceUse()
    before = _begin(device)
    start = time.perf_counter()
    try:
        yield result
    finally:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        result.seconds = time.perf_counter() - start
        result.peak_bytes = max(0, _peak(device) - before)


def _begin(device: torch.device) -> int:
    """Reset the peak; the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if CLEAR.exists():
        # Freed memory stays with the process until it is returned to the system, and would hide what the block needs.
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        CLEAR.write_text("5")  # resets Linux's peak to what is resident now
    return _resident("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _resident(field: str) -> int:
    if not STATUS.exists():
        return 0
    lines = STATUS.read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
