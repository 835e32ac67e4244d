"""The processes that train together, as torchrun or ``accelerate launch`` has started them."""

import torch
from accelerate.state import PartialState

from roselora.errors import ConfigError
from roselora.models.devices import AUTO, device_for


def join(wanted: str = AUTO) -> torch.device:
    """Join the other processes, if there are any; the device on which this one trains and asks.

    Accelerate must be told when that is the CPU, or it takes several processes on CPUs for strangers.

    Raises:
        ConfigError: the device is not there, or is not the one that a Trainer takes.
    """
    device = device_for(wanted)
    if device.index:
        raise ConfigError(
            f"Training takes the first {device.type} that is visible, not {device}: choose another by "
            f"CUDA_VISIBLE_DEVICES={device.index}."
        )
    cpu = device.type == "cpu"
    if PartialState._shared_state and vars(PartialState())["_cpu"] != cpu:
        PartialState._reset_state()  # type: ignore[no-untyped-call]
    joined: torch.device = vars(PartialState(cpu=cpu))["device"]
    return joined


def count() -> int:
    """How many there are."""
    return int(vars(_state())["num_processes"])


def wait() -> None:
    """Go on when all have come here."""
    _state().wait_for_everyone()  # type: ignore[no-untyped-call]


def index() -> int:
    """Which of them this is; the main one is 0."""
    return int(vars(_state())["process_index"])


def _state() -> PartialState:
    """What :func:`join` has joined; before that, of the device that would be chosen."""
    return PartialState(cpu=device_for().type == "cpu")
