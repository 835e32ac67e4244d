"""Indices encoded as gaps are decoded unchanged, and take about a byte each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roselora.delta.index_encoding import decode_gaps, encode_gaps


@settings(deadline=None)
@given(
    rows=st.integers(1, 3).flatmap(
        lambda k: st.lists(st.sets(st.integers(0, 1000), min_size=k, max_size=k), min_size=1, max_size=4)
    )
)
def test_gaps_come_back_and_take_at_most_a_byte_each_and_one_for_255(rows: list[set[int]]) -> None:
    index = np.array([sorted(row) for row in rows], np.int64)
    stream = encode_gaps(index)
    assert stream.size <= index.size + len(rows) * (1001 // 255)
    assert np.array_equal(decode_gaps(stream, [index.shape])[0], index)
    both = decode_gaps(np.concatenate([stream, stream]), [index.shape, index.shape])
    assert np.array_equal(both[1], index)


@pytest.mark.parametrize("last", [0, 254, 255, 256, 509, 510, 511, 151_935])
def test_gaps_at_the_edges_of_a_byte(last: int) -> None:
    assert decode_gaps(encode_gaps(np.array([[last]])), [(1, 1)])[0].tolist() == [[last]]
    assert encode_gaps(np.array([[last]])).tolist() == [255] * (last // 255) + [last % 255]
