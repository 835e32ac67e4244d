"""The processes that train together, as torchrun or ``accelerate launch`` has started them."""

import torch
from accelerate.state import PartialState


def on_cpu() -> bool:
    """Whether there is no accelerator; accelerate must be told, or it takes several processes on CPUs for strangers."""
    return not torch.accelerator.is_available()


def count() -> int:
    """How many there are."""
    return int(vars(PartialState(cpu=on_cpu()))["num_processes"])


def wait() -> None:
    """Go on when all have come here."""
    PartialState(cpu=on_cpu()).wait_for_everyone()  # type: ignore[no-untyped-call]


def index() -> int:
    """Which of them this is; the main one is 0."""
    return int(vars(PartialState(cpu=on_cpu()))["process_index"])
