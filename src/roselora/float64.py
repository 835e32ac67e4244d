"""float64 on every device."""

from torch import Tensor

WITHOUT_FLOAT64 = {"mps"}
"""The types of devices that have no float64."""


def double(tensor: Tensor) -> Tensor:
    """The tensor in float64; on the CPU if its own device has none."""
    return (tensor.cpu() if tensor.device.type in WITHOUT_FLOAT64 else tensor).double()
