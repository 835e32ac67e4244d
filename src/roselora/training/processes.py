"""The processes that train together, as torchrun or ``accelerate launch`` started them."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list, reduce  # type: ignore[attr-defined]

from roselora.errors import ConfigError
from roselora.models.devices import AUTO, device_for

Found = TypeVar("Found")


def join(wanted: str = AUTO) -> torch.device:
    """Join the other processes, if there are any, and return the device on which this one computes.

    Raises:
        ConfigError: the device does not exist, or is not the one that a Trainer uses.
    """
    device = device_for(wanted)
    if device.index:
        raise ConfigError(
            f"Training takes the first {device.type} that is visible, not {device}: choose another by "
            f"CUDA_VISIBLE_DEVICES={device.index}."
        )
    # Accelerate has to be told to use the CPU: otherwise several processes on CPUs do not find each other. Its state is
    # a singleton, so one that was created for another kind of device is discarded first.
    cpu = device.type == "cpu"
    if PartialState._shared_state and _state()._cpu != cpu:
        PartialState._reset_state()  # type: ignore[no-untyped-call]
    joined: torch.device = vars(PartialState(cpu=cpu))["device"]
    if wanted != AUTO and joined.type != device.type:
        raise ConfigError(f"Accelerate trains on {joined}, not on {device}: see to ACCELERATE_TORCH_DEVICE.")
    return joined


def count() -> int:
    """The number of processes."""
    return int(_state().num_processes)


def index() -> int:
    """The number of this process; the main process is 0."""
    return int(_state().process_index)


def wait() -> None:
    """Continue when all processes have come here."""
    _state().wait_for_everyone()


def agreed(find: Callable[[], Found]) -> Found:
    """Call a function in the main process only, and return its result, or raise its error, in all processes."""
    if count() == 1:
        return find()
    outcome: list[Any] = [None, None]
    if index() == 0:
        try:
            outcome[0] = find()
        except Exception as error:  # if it were raised here at once, the others would wait for ever
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    found: Found = outcome[0]
    return found


def any_of_them(flag: bool) -> bool:
    """Whether the flag is set in at least one process; all of them must call this."""
    if count() == 1:
        return flag
    return bool(reduce(torch.tensor(int(flag), device=_state().device), "sum"))


def _state() -> Any:
    """Accelerate's state: the one that :func:`join` created, or one for the default device."""
    return PartialState(cpu=device_for().type == "cpu")
