"""The processes that train together, as torchrun or ``accelerate launch`` has started them."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list  # type: ignore[attr-defined]
from torch import distributed

from roselora.errors import ConfigError
from roselora.models.devices import AUTO, device_for

Found = TypeVar("Found")


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
    if wanted != AUTO and joined.type != device.type:
        raise ConfigError(f"Accelerate trains on {joined}, not on {device}: see to ACCELERATE_TORCH_DEVICE.")
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


def agreed(find: Callable[[], Found]) -> Found:
    """What the main process finds, in all of them; what it raises, all of them raise."""
    if count() == 1:
        return find()
    said: list[Any] = [None, None]
    if index() == 0:
        try:
            said[0] = find()
        except Exception as error:
            said[1] = error
    broadcast_object_list(said)
    if said[1] is not None:
        raise said[1]
    found: Found = said[0]
    return found


def any_of_them(flag: bool) -> bool:
    """Whether the flag is set in one of the processes; all of them must ask."""
    if count() == 1:
        return flag
    told = torch.tensor(int(flag), device=vars(_state())["device"])
    distributed.all_reduce(told, distributed.ReduceOp.MAX)
    return bool(told)


def _state() -> PartialState:
    """What :func:`join` has joined; before that, of the device that would be chosen."""
    return PartialState(cpu=device_for().type == "cpu")
