import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from roselora.core.importance import sensitivity, smooth_importance_
from roselora.core.pruning import keep_mask, kept_count, prune_columns_, prune_rows_
from roselora.errors import ConfigError, NonFiniteError

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def naive_mask(importance, kept, dim):
    """Sort every group by falling score, then by rising index, and keep the first ones."""
    groups = importance.cpu().double().movedim(dim, -1)
    mask = torch.zeros(groups.shape, dtype=torch.bool)
    for group, marks in zip(groups.reshape(-1, groups.shape[-1]), mask.view(-1, groups.shape[-1]), strict=True):
        scores = group.tolist()
        for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:kept]:
            marks[index] = True
    return mask.movedim(-1, dim)


def coarse_scores(*shape, seed=0):
    """Scores with many ties, some of them infinite or a zero of either sign."""
    values = torch.tensor([0.0, -0.0, 0.5, 1.0, 1.5, math.inf])
    return values[torch.randint(len(values), shape, generator=torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize(
    ("density", "length", "kept"),
    [(0.05, 4096, 204), (0.05, 10, 1), (1.0, 7, 7), (0.5, 7, 3), (0.999, 3, 2), (1e-9, 1, 1), (0.25, 8, 2)],
)
def test_kept_count_is_the_floor_and_at_least_one(density, length, kept):
    assert kept_count(density, length) == kept


@pytest.mark.parametrize("density", [0.0, -0.5, 1.01, float("nan")])
def test_a_density_outside_its_range_is_refused(density):
    with pytest.raises(ConfigError, match="density must be"):
        kept_count(density, 10)


def test_an_empty_row_is_refused():
    with pytest.raises(ConfigError, match="at least 1 entry"):
        kept_count(0.5, 0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [-1, -2])
@pytest.mark.parametrize("kept", [1, 3, 8])
def test_the_mask_keeps_the_largest_and_breaks_ties_by_index_in_every_dtype(device, dtype, dim, kept):
    importance = coarse_scores(2, 3, 8, 8).to(device, dtype)
    mask = keep_mask(importance, kept, dim=dim)
    assert mask.dtype == torch.bool
    assert torch.equal(mask.cpu(), naive_mask(importance, kept, dim))


@pytest.mark.parametrize("dim", [-1, -2])
def test_all_zero_scores_keep_the_first_entries(dim):
    mask = keep_mask(torch.zeros(6, 6), 2, dim=dim).movedim(dim, -1)
    assert mask.tolist() == [[True, True, False, False, False, False]] * 6


def test_zeros_of_both_signs_are_one_tie():
    assert keep_mask(torch.tensor([[-0.0, 0.0, -0.0]]), 1, dim=-1).tolist() == [[True, False, False]]


def test_infinity_outranks_every_number():
    assert keep_mask(torch.tensor([[1.0, 9e37, math.inf]]), 1, dim=-1).tolist() == [[False, False, True]]


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 5), (4, 1, 1)])
@pytest.mark.parametrize("dim", [-1, -2])
def test_groups_of_one_entry_and_rank_one_work(shape, dim):
    importance = torch.arange(math.prod(shape)).reshape(shape).float()
    assert torch.equal(keep_mask(importance, 1, dim=dim), naive_mask(importance, 1, dim))


@settings(deadline=None, max_examples=200)
@given(data=st.data(), shape=st.lists(st.integers(1, 7), min_size=2, max_size=4), dim=st.sampled_from([-1, -2]))
def test_the_mask_equals_the_naive_sort_for_any_shape(data, shape, dim):
    count = math.prod(shape)
    value = st.integers(-3, 3).map(float) | st.floats(allow_nan=False, width=32)
    values = data.draw(st.lists(value, min_size=count, max_size=count))
    importance = torch.tensor(values).reshape(shape)
    kept = data.draw(st.integers(1, shape[dim]))
    mask = keep_mask(importance, kept, dim=dim)
    assert (mask.sum(dim) == kept).all()
    assert torch.equal(mask, naive_mask(importance, kept, dim))


def test_scores_that_differ_only_beyond_fp32_are_told_apart_in_fp64():
    importance = torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64)
    assert keep_mask(importance, 1, dim=-1).tolist() == [[False, True]]


@pytest.mark.parametrize("dim", [-1, -2])
def test_a_batch_equals_a_loop_over_it(dim):
    importance = coarse_scores(3, 2, 5, 9)
    mask = keep_mask(importance, 2, dim=dim)
    for i in range(3):
        for j in range(2):
            assert torch.equal(mask[i, j], keep_mask(importance[i, j], 2, dim=dim))


def test_the_mask_leaves_the_scores_as_they_were():
    importance = coarse_scores(4, 9).requires_grad_()
    before = importance.detach().clone()
    assert not keep_mask(importance, 3, dim=-1).requires_grad
    assert torch.equal(importance, before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kept", [1, 2, 6])
@pytest.mark.parametrize("dim", [-1, -2])
def test_nan_is_refused_wherever_it_stands(device, dtype, kept, dim):
    for position in range(36):
        importance = torch.full((6, 6), math.inf)
        importance.view(-1)[position] = math.nan
        with pytest.raises(NonFiniteError, match="NaN"):
            keep_mask(importance.to(device, dtype), kept, dim=dim)


@pytest.mark.parametrize("kept", [0, 5])
def test_a_count_that_does_not_fit_the_group_is_refused(kept):
    with pytest.raises(ConfigError, match="kept must be from 1 to 4"):
        keep_mask(torch.ones(3, 4), kept, dim=-1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("prune", "dim"), [(prune_rows_, -1), (prune_columns_, -2)])
def test_pruning_zeroes_in_place_exactly_what_the_mask_drops(device, dtype, prune, dim):
    weight = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    before, importance = weight.clone(), coarse_scores(2, 8, 12, seed=1).to(device)
    assert prune(weight, importance, 0.3) is weight
    mask = keep_mask(importance, kept_count(0.3, weight.shape[dim]), dim=dim)
    assert torch.equal(weight, before.masked_fill(~mask, 0))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pruned_weights_are_positive_zero_even_if_negative_infinite_or_nan(device, dtype):
    a = torch.tensor([[-1.0, math.inf, -math.inf, math.nan, -0.0, 7.0]], dtype=dtype, device=device)
    prune_rows_(a, torch.arange(6.0, device=device).unsqueeze(0), 1 / 6)
    assert a.tolist() == [[0.0] * 5 + [7.0]]
    assert not a.signbit().any()


def test_rows_of_a_and_columns_of_b_are_the_groups():
    a, b = torch.ones(2, 6), torch.ones(6, 2)
    prune_rows_(a, torch.rand(2, 6, generator=torch.Generator().manual_seed(0)), 0.5)
    prune_columns_(b, torch.rand(6, 2, generator=torch.Generator().manual_seed(0)), 0.5)
    assert a.sum(1).tolist() == [3, 3]
    assert b.sum(0).tolist() == [3, 3]


@pytest.mark.parametrize("prune", [prune_rows_, prune_columns_])
def test_non_contiguous_inputs_are_pruned_like_their_copies(prune):
    wide = torch.randn(10, 16, generator=torch.Generator().manual_seed(0))
    weight, importance = wide.T[::2], coarse_scores(10, 16).T[::2]
    expected = prune(weight.clone(memory_format=torch.contiguous_format), importance.contiguous(), 0.4)
    untouched = wide.T[1::2].clone()
    prune(weight, importance, 0.4)
    assert torch.equal(wide.T[::2], expected)
    assert torch.equal(wide.T[1::2], untouched)


def test_a_parameter_that_needs_gradients_is_pruned_and_its_version_counted():
    a = torch.nn.Parameter(torch.ones(1, 4))
    version = a._version
    prune_rows_(a, torch.arange(4.0).unsqueeze(0), 0.25)
    assert a.tolist() == [[0, 0, 0, 1]]
    assert a.requires_grad
    assert a._version > version


def test_full_density_changes_nothing_but_still_refuses_nan():
    a = torch.tensor([[-0.0, 1.0]])
    prune_rows_(a, torch.ones(1, 2), 1.0)
    assert a.signbit().tolist() == [[True, False]]
    with pytest.raises(NonFiniteError):
        prune_rows_(a, torch.tensor([[math.nan, 1.0]]), 1.0)


def test_a_refused_score_leaves_the_weights_untouched():
    a = torch.ones(2, 4)
    with pytest.raises(NonFiniteError):
        prune_rows_(a, torch.full((2, 4), math.nan), 0.5)
    assert (a == 1).all()


def test_importance_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match=r"shape \(4,\) but the weight has \(2, 4\)"):
        prune_rows_(torch.ones(2, 4), torch.ones(4), 0.5)


def naive_rows(scores: torch.Tensor, kept: int) -> torch.Tensor:
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for row, values in enumerate(scores.tolist()):
        for column in sorted(range(len(values)), key=lambda index: (-values[index], index))[:kept]:
            mask[row, column] = True
    return mask


@pytest.mark.parametrize("positives", [[3, 3, 3], [3, 2, 0], [3, 1, 2], [4, 3, 2], [9, 0, 3]])
@pytest.mark.parametrize("negatives", [0, 4, 7])
def test_scores_that_are_mostly_zero_give_the_naive_mask(positives: list[int], negatives: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.zeros(3, 10)
    for row, count in zip(scores, positives, strict=True):
        places = torch.randperm(10, generator=generator)
        row[places[:count]] = torch.rand(count, generator=generator) + 0.1
        row[places[count : count + negatives]] = -torch.rand(
            len(places[count : count + negatives]), generator=generator
        )
    assert torch.equal(keep_mask(scores, 3, dim=-1), naive_rows(scores, 3))
    assert torch.equal(keep_mask(scores.T.contiguous(), 3, dim=-2), naive_rows(scores, 3).T)


def test_a_nan_among_zeros_is_refused() -> None:
    scores = torch.zeros(2, 8)
    scores[:, :2] = 1
    scores[1, 5] = float("nan")
    with pytest.raises(NonFiniteError):
        keep_mask(scores, 2, dim=-1)


@pytest.mark.parametrize(("dim", "shape"), [(-1, (2, 1000)), (-2, (1000, 2))])
def test_where_few_of_a_group_are_kept_torch_selects_them_whatever_way_the_groups_run(monkeypatch, dim, shape):
    importance = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(np, "array", lambda *_, **__: pytest.fail("numpy would sort a whole group"))
    assert keep_mask(importance, 5, dim=dim).sum(dim).tolist() == [5, 5]


def test_a_pruned_entry_does_not_come_back_however_large_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 40, generator=generator)
    average = torch.ones_like(weight)
    kept = torch.ones_like(weight, dtype=torch.bool)
    for step in range(60):
        gradient = torch.randn(4, 40, generator=generator) * torch.where(kept, 1.0, 1e6)
        smooth_importance_(average, sensitivity(weight, gradient), beta=0.85)
        weight -= 0.01 * gradient
        prune_rows_(weight, average, density=max(0.1, 1 - step / 30))
        assert not bool((weight.ne(0) & ~kept).any())
        kept = weight.ne(0)
    assert kept.sum() == 4 * 4
