from roselora.editing.methods.gate.value_training import _of_like_length


def test_requests_train_in_parts_of_like_length() -> None:
    assert _of_like_length([0, 1, 2, 3, 4], [4, 1, 6, 1, 7]) == [[1, 3], [0, 2], [4]]
    assert _of_like_length([], []) == []
