"""SparseFactors and SparseDelta: what they store, what they expand to, what they refuse."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from roselora.delta import expansion
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError, NonFiniteError

BASE = {"base_dtype": torch.bfloat16, "base_sha256": "a" * 64}


def factors(A: Tensor, B: Tensor, scale: float = 2.0, layer: str = "linear") -> SparseFactors:
    return SparseFactors.from_factors("w", A, B, scale, layer=layer, **BASE)


def sparse(shape: tuple[int, int], density: float, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    keep = torch.rand(shape, generator=generator) < density
    return (torch.randn(shape, generator=generator) * keep).to(dtype)


def test_rows_are_padded_with_zeros_at_their_smallest_unused_indices() -> None:
    A = torch.tensor([[0.0, 5, 0, 6, 0, 7], [0, 0, 0, 0, 0, 8], [0, 0, 0, 0, 0, 0]])
    B = torch.tensor([[0.0, 1, 0], [2, 3, 0], [0, 0, 0]])
    made = factors(A, B)
    assert made.a_columns.tolist() == [[1, 3, 5], [0, 1, 5], [0, 1, 2]]
    assert made.a_values.tolist() == [[5, 6, 7], [0, 0, 8], [0, 0, 0]]
    assert made.b_rows.tolist() == [[0, 1], [0, 1], [0, 1]]
    assert made.b_values.tolist() == [[0, 2], [1, 3], [0, 0]]
    assert made.shape == (3, 6)
    assert made.entries_at_most == 3 * 1 + 1 * 2


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**20),
    rank=st.integers(1, 6),
    d_out=st.integers(1, 12),
    d_in=st.integers(1, 12),
    density=st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    layer=st.sampled_from(["linear", "conv1d", "embedding"]),
    band=st.sampled_from([1, 20, 1 << 20]),
)
def test_the_factors_come_back_and_expand_to_their_product_in_order(
    seed: int, rank: int, d_out: int, d_in: int, density: float, dtype: torch.dtype, layer: str, band: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    A = sparse((rank, d_in), density, generator, dtype)
    B = sparse((d_out, rank), density, generator, dtype)
    made = factors(A, B, 0.3, layer)
    back_A, back_B = made.to_factors()
    assert torch.equal(back_A, A)
    assert torch.equal(back_B, B)
    assert back_A.dtype == dtype
    expected = torch.zeros(d_out, d_in)
    for i in range(rank):
        expected += (B[:, i].float() * torch.tensor(0.3)).outer(A[i].float())
    expected = expected.T.contiguous() if layer != "linear" else expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expansion, "BAND_ENTRIES", band)
        index, value = made.expand()
    assert torch.equal(index, expected.view(-1).nonzero()[:, 0])
    assert torch.equal(value, expected.view(-1)[index])
    assert (index.dtype, value.dtype) == (torch.int64, torch.float32)
    assert len(index) <= made.entries_at_most
    assert made.stored_shape == tuple(expected.shape)


def test_factors_are_expanded_once() -> None:
    made = factors(torch.ones(1, 3), torch.ones(2, 1))
    assert made.expand()[0] is made.expand()[0]


def change(**fields: object) -> None:
    dataclasses.replace(factors(torch.ones(2, 3), torch.ones(4, 2)), **fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "empty name"),
        ({"layer": "conv2d"}, "layer is 'conv2d'"),
        ({"base_dtype": torch.int8}, "float32, bfloat16 or float16"),
        ({"a_values": torch.ones(2, 3, dtype=torch.float64)}, "float32, bfloat16 or float16"),
        ({"a_values": torch.ones(2, 3, dtype=torch.float16)}, "one dtype and one rank"),
        ({"base_sha256": "A" * 64}, "64 lower-case"),
        ({"shape": (4, 2)}, r"A has an index outside 0…1"),
        ({"shape": (3, 3)}, r"B has an index outside 0…2"),
        ({"a_columns": torch.tensor([[0, 1, 2], [0, 2, 1]])}, "A's indices must ascend strictly"),
        ({"a_columns": torch.tensor([[0, 1, 1], [0, 1, 2]])}, "A's indices must ascend strictly"),
        ({"a_columns": torch.tensor([[-1, 1, 2], [0, 1, 2]])}, "outside"),
        ({"a_columns": torch.tensor([[0, 1, 2]])}, "do not match"),
        ({"a_columns": torch.zeros(2, 3, dtype=torch.int32)}, "int64"),
    ],
)
def test_factors_that_do_not_fit_together_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        change(**fields)


@pytest.mark.parametrize(
    "fields",
    [{"b_values": torch.full((2, 4), bad)} for bad in (float("nan"), float("inf"), -float("inf"))]
    + [{"scale": bad} for bad in (float("nan"), float("inf"), 1e39)],
)
def test_promise_3_nan_and_infinity_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(NonFiniteError, match="w: "):
        change(**fields)


def test_dense_factors_of_the_wrong_shape_are_refused() -> None:
    for A, B in [
        (torch.ones(3), torch.ones(4, 2)),
        (torch.ones(2, 3), torch.ones(2, 4)),
        (torch.ones(0, 3), torch.ones(4, 0)),
    ]:
        with pytest.raises(ConfigError, match=r"must be \(r, d_in\) and \(d_out, r\)"):
            factors(A, B)


def test_a_delta_holds_each_weight_once_in_the_order_of_names_and_plain_metadata() -> None:
    first = factors(torch.ones(1, 2), torch.ones(2, 1))
    second = dataclasses.replace(first, name="a")
    delta = SparseDelta((first, second), {"b": [1, None, "é"], "a": {"seed": 3}})
    assert [weight.name for weight in delta.weights] == ["a", "w"]
    assert list(delta.metadata) == ["a", "b"]
    with pytest.raises(ConfigError, match="w occurs twice"):
        SparseDelta((first, first))
    with pytest.raises(ConfigError, match="at least one weight"):
        SparseDelta(())
    for metadata in ({"a": float("nan")}, {"a": torch.ones(1)}, {"a": np.float32(1)}):
        with pytest.raises(ConfigError, match="plain JSON"):
            SparseDelta((first,), metadata)
