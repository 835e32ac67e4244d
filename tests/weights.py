"""A model's weights, kept aside and compared byte by byte."""

import torch
from torch import Tensor, nn


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every tensor of the model's state."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bytes(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether two copies have the same names and the same bytes."""

    def raw(tensor: Tensor) -> bytes:
        return tensor.contiguous().view(torch.uint8).numpy().tobytes()

    return left.keys() == right.keys() and all(raw(left[name]) == raw(right[name]) for name in left)
