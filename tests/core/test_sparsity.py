import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from roselora.core import sparsity
from roselora.core.pruning import prune_columns_, prune_rows_
from roselora.core.sparsity import (
    count_product_nonzeros,
    product_sparsity,
    product_sparsity_bound,
    zero_fraction,
)
from roselora.errors import ConfigError, NonFiniteError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def random_factors(batch, rank, d_in, d_out, density, seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(*batch, rank, d_in, generator=generator)
    b = torch.randn(*batch, d_out, rank, generator=generator)
    return prune_rows_(a, a.abs(), density), prune_columns_(b, b.abs(), density)


def count_by_forming(a, b):
    return (b.double() @ a.double() != 0).sum(dim=(-2, -1))


factors = st.builds(
    random_factors,
    st.sampled_from([(), (1,), (3,), (2, 2)]),
    st.integers(1, 5),
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0.01, 1.0),
    st.integers(0, 2**31),
)


def test_zero_fraction_counts_zeros_of_both_signs_along_one_dimension():
    tensor = torch.tensor([[0.0, -0.0, 1.0, 2.0], [0.0, 3.0, 4.0, 5.0]])
    assert zero_fraction(tensor, -1).tolist() == [0.5, 0.25]
    assert zero_fraction(tensor, -2).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert zero_fraction(tensor, -1).dtype == torch.float64


@settings(deadline=None)
@given(factors)
def test_the_count_equals_forming_the_product(pair):
    a, b = pair
    count = count_product_nonzeros(a, b)
    assert count.dtype == torch.int64
    assert torch.equal(count, count_by_forming(a, b))


@settings(deadline=None)
@given(factors)
def test_proposition_1_never_promises_more_sparsity_than_there_is(pair):
    a, b = pair
    bound = product_sparsity_bound(a, b)
    assert bound.dtype == torch.float64
    assert bound.shape == a.shape[:-2]
    assert (bound >= 0).all()
    assert (bound <= product_sparsity(a, b)).all()


@settings(deadline=None)
@given(factors)
def test_the_bound_is_the_papers_formula(pair):
    a, b = pair
    of_a, of_b = zero_fraction(a, -1), zero_fraction(b, -2)
    papers = (1 + (of_a + of_b - of_a * of_b).sum(-1) - a.shape[-2]).clamp(min=0)
    torch.testing.assert_close(product_sparsity_bound(a, b), papers, rtol=0, atol=1e-12)


def test_the_bound_is_reached_when_the_terms_do_not_overlap():
    a = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    b = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    assert product_sparsity_bound(a, b).item() == product_sparsity(a, b).item() == 1 - 2 / 12


def test_terms_that_cancel_are_counted_as_zero():
    a = torch.tensor([[1.0, 2.0], [1.0, 1.0]])
    b = torch.tensor([[1.0, -1.0]])
    assert count_product_nonzeros(a, b).item() == 1


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_do_not_change_the_count(monkeypatch, chunk):
    a, b = random_factors((2,), 3, 40, 50, 0.2, seed=0)
    monkeypatch.setattr(sparsity, "_CHUNK_ELEMENTS", chunk)
    assert torch.equal(count_product_nonzeros(a, b), count_by_forming(a, b))


def test_no_chunk_holds_more_than_its_limit(monkeypatch):
    a, b = random_factors((), 2, 300, 500, 0.5, seed=0)
    sizes = []
    matmul = torch.Tensor.__matmul__
    monkeypatch.setattr(sparsity, "_CHUNK_ELEMENTS", 1000)
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda x, y: sizes.append(len(x) * y.shape[1]) or matmul(x, y))
    count_product_nonzeros(a, b)
    assert len(sizes) > 1
    assert max(sizes) <= 1000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_every_dtype_is_counted(dtype, device):
    a, b = random_factors((2,), 4, 64, 48, 0.1, seed=1)
    a, b = a.to(device, dtype), b.to(device, dtype)
    assert torch.equal(count_product_nonzeros(a, b), count_by_forming(a, b))


def test_products_too_small_for_half_precision_still_count():
    small = torch.full((1, 1), 1e-5, dtype=torch.float16)
    assert (small @ small).item() == 0
    assert count_product_nonzeros(small, small).item() == 1


def test_a_zero_factor_leaves_nothing():
    a, b = torch.ones(2, 5), torch.zeros(3, 2)
    assert count_product_nonzeros(a, b).item() == 0
    assert product_sparsity(a, b).item() == product_sparsity_bound(a, b).item() == 1.0


def test_dense_factors_are_promised_nothing():
    a, b = torch.ones(2, 5), torch.ones(3, 2)
    assert product_sparsity(a, b).item() == product_sparsity_bound(a, b).item() == 0.0


def test_an_empty_batch_gives_no_counts():
    assert count_product_nonzeros(torch.ones(0, 2, 5), torch.ones(0, 3, 2)).shape == (0,)


@pytest.mark.parametrize(
    ("shape_a", "shape_b"),
    [((2, 5), (3, 4)), ((2, 2, 5), (3, 3, 2)), ((2, 2, 5), (3, 2)), ((5,), (3, 2)), ((2, 0), (3, 2))],
)
@pytest.mark.parametrize("function", [product_sparsity_bound, count_product_nonzeros, product_sparsity])
def test_shapes_that_do_not_fit_are_named(function, shape_a, shape_b):
    with pytest.raises(ConfigError) as error:
        function(torch.ones(shape_a), torch.ones(shape_b))
    assert str(shape_a) in str(error.value)
    assert str(shape_b) in str(error.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_factor_that_is_not_finite_is_refused(value):
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        count_product_nonzeros(torch.full((1, 2), value), torch.zeros(2, 1))
