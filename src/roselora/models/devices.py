"""The device and the dtype of a model: those that were asked for, or suitable ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from roselora.errors import ConfigError, UnsupportedError, reason_of

AUTO = "auto"


def device_for(wanted: str | torch.device = AUTO) -> torch.device:
    """The device that was asked for; ``auto`` is the accelerator (CUDA, MPS or another that torch sees), else the CPU.

    Raises:
        ConfigError: there is no such device on this machine.
    """
    here = known_devices()
    if wanted == AUTO:
        return torch.device(here[-1].type)
    known = ", ".join(map(str, here))
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ConfigError(f"There is no kind of device {str(wanted)!r}: name auto, or one of {known}.") from None
    if device.type != "cpu" and torch.device(device.type, device.index or 0) not in here:
        raise ConfigError(f"The device {device} is not here: name auto, or one of {known}.")
    return device


def known_devices() -> list[torch.device]:
    """The devices of this machine that torch sees, the CPU first."""
    there = torch.accelerator.current_accelerator(check_available=True)
    if there is None:
        return [torch.device("cpu")]
    return [
        torch.device("cpu"),
        *(torch.device(there.type, number) for number in range(torch.accelerator.device_count())),
    ]


def dtype_for(wanted: str | torch.dtype, device: torch.device) -> torch.dtype | None:
    """The dtype that was asked for, such as ``bfloat16``; None for ``auto``, the checkpoint's own.

    Raises:
        ConfigError: it is not a floating-point dtype, or the device cannot compute in it.
    """
    if wanted == AUTO:
        return None
    dtype = getattr(torch, wanted, None) if isinstance(wanted, str) else wanted
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ConfigError(f"{wanted} is not a dtype to compute in: name auto, float32, bfloat16 or float16.")
    require_dtype(dtype, device)
    return dtype


def require_dtype(dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a dtype in which a device cannot multiply matrices.

    Raises:
        ConfigError: it cannot.
    """
    try:
        torch.ones(2, 2, dtype=dtype, device=device) @ torch.ones(2, 2, dtype=dtype, device=device)
    except (RuntimeError, TypeError) as error:
        name, reason = str(dtype).removeprefix("torch."), reason_of(error)
        raise ConfigError(f"The device {device} cannot compute in {name} ({reason}): name another dtype.") from None


def require_one_device(model: nn.Module) -> None:
    """Refuse a model that is spread over several devices, or has weights on none, as one offloaded to the disk.

    Raises:
        UnsupportedError: it is.

    Example:
        >>> require_one_device(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta")))
        Traceback (most recent call last):
        roselora.errors.UnsupportedError: The model's weights are on cpu, meta: edits need them on one device.
    """
    devices = sorted({str(weight.device) for weight in model.parameters()})
    if len(devices) > 1 or "meta" in devices:
        raise UnsupportedError(f"The model's weights are on {', '.join(devices)}: edits need them on one device.")


def device_name(device: torch.device) -> str:
    """The device with the name of its hardware, such as ``cuda (NVIDIA H200)``."""
    return f"{device.type} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, the random numbers of the CPU and one device start from a seed; afterwards their states are restored."""
    kind, here = (None, []) if device.type == "cpu" else (device.type, [device])
    with torch.random.fork_rng(here, device_type=kind):
        torch.manual_seed(seed)
        yield
