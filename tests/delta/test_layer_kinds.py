import pytest
from torch import nn
from transformers.pytorch_utils import Conv1D

from roselora.delta.layer_kinds import layer_kind
from roselora.errors import UnsupportedError


def test_the_three_kinds_are_told_apart_and_another_is_refused_by_name() -> None:
    layers = (nn.Linear(3, 2), Conv1D(2, 3), nn.Embedding(5, 2))
    assert [layer_kind("layer", layer) for layer in layers] == ["linear", "conv1d", "embedding"]
    with pytest.raises(UnsupportedError, match=r"features\.0 is a Conv2d"):
        layer_kind("features.0", nn.Conv2d(1, 1, 1))
