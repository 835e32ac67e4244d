"""What kind of layer a weight belongs to, and so how its update lies in it."""

from torch import nn
from transformers.pytorch_utils import Conv1D

from roselora.delta.sparse_delta import Layer
from roselora.errors import UnsupportedError


def layer_kind(name: str, layer: nn.Module) -> Layer:
    """`linear`, `conv1d` (GPT-2's, stored transposed) or `embedding`.

    Raises:
        UnsupportedError: it is none of these; the message names it.
    """
    if isinstance(layer, nn.Linear):
        return "linear"
    if isinstance(layer, nn.Embedding):
        return "embedding"
    if isinstance(layer, Conv1D):
        return "conv1d"
    raise UnsupportedError(f"{name} is a {type(layer).__name__}; only Linear, Conv1D and Embedding can carry a delta.")
