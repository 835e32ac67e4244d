"""The shape of training data follows from its columns."""

import pytest

from roselora.training.example_shapes import matching_shape


@pytest.mark.parametrize(
    ("columns", "shape"),
    [
        (["messages"], "chat"),
        (["instruction", "output", "input"], "instruction"),
        (["text", "label"], "classification"),
        (["text"], "completion"),
        (["prompt", "completion"], "completion"),
    ],
)
def test_the_shape_is_recognised_by_the_columns(columns: list[str], shape: str) -> None:
    found = matching_shape(columns, "auto")
    assert found is not None
    assert found[0] == shape
