"""What a delta changes and where two deltas collide, compared with hand-computed cases."""

import math

import pytest
import torch
from torch import Tensor

from roselora.delta import comparison
from roselora.delta.comparison import EntryChange, changes, collisions, shared_entries, weight_differences
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError


def delta(matrix: Tensor, name: str = "w", layer: str = "linear") -> SparseDelta:
    """The delta whose product is `matrix` (d_out, d_in)."""
    identity = torch.eye(len(matrix))
    made = SparseFactors.from_factors(
        name, matrix, identity, 1.0, layer=layer, base_dtype=torch.float32, base_sha256="0" * 64
    )
    return SparseDelta((made,))


def test_the_changes_of_a_delta() -> None:
    matrix = torch.tensor([[0.0, 3.0, 0.0], [0.0, 0.0, -4.0]])
    (change,) = changes(delta(matrix))
    assert (change.name, change.entries, change.share, change.norm) == ("w", 2, 2 / 6, 5.0)
    assert change.largest == (EntryChange(1, 2, -4.0), EntryChange(0, 1, 3.0))
    (stored,) = changes(delta(matrix, layer="conv1d"))
    assert stored.largest == (EntryChange(2, 1, -4.0), EntryChange(1, 0, 3.0))
    (nothing,) = changes(delta(torch.zeros(2, 3)))
    assert (nothing.entries, nothing.norm, nothing.largest) == (0, 0.0, ())


def test_the_largest_of_many_changes_are_reported_and_of_equal_ones_the_first() -> None:
    matrix = torch.tensor([[1.0, -2, 2, 1, 1, 9, 1, 1, 1, 1]])
    (change,) = changes(delta(matrix))
    assert [(move.column, move.value) for move in change.largest] == [(5, 9), (1, -2), (2, 2), (0, 1), (3, 1)]


def test_two_deltas_collide_where_both_change_an_entry() -> None:
    first = torch.tensor([[1.0, 2.0, 0.0], [0.0, -4.0, 3.0]])
    second = torch.tensor([[5.0, 0.0, 1.0], [0.0, 1.0, -2.0]])
    (collision,) = collisions(delta(first), delta(second))
    assert collision.entries == 3
    assert collision.first_norm == pytest.approx(math.sqrt(1 + 16 + 9))
    assert collision.second_norm == pytest.approx(math.sqrt(25 + 1 + 4))
    assert collision.largest == (EntryChange(1, 2, -2.0), EntryChange(0, 0, 1.0), EntryChange(1, 1, 1.0))
    assert collisions(delta(first), delta(second, name="other")) == []
    assert collisions(delta(first), delta(torch.tensor([[0.0, 0, 1], [1, 0, 0]]))) == []
    with pytest.raises(ConfigError, match=r"\(2, 3\) in one delta, \(3, 2\) in the other"):
        collisions(delta(first), delta(second.T))


@pytest.mark.parametrize("cells", [1, 50, 1 << 22])
def test_the_shared_entries_of_many_deltas_are_the_collisions_of_each_pair(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_CELLS", cells)
    generator = torch.Generator().manual_seed(0)
    many = []
    for number in range(7):
        weights: list[SparseFactors] = []
        for name in ("v", "w")[: 1 + number % 2]:
            matrix = torch.randn(5, 6, generator=generator) * (torch.rand(5, 6, generator=generator) < 0.3)
            weights += delta(matrix, name).weights
        many.append(SparseDelta(tuple(weights)))
    many.append(delta(torch.zeros(5, 6), "w"))
    counts, squares = shared_entries(many)
    for first, one in enumerate(many):
        for second, other in enumerate(many[:first]):
            shared = collisions(one, other)
            assert counts[first, second] == counts[second, first] == sum(each.entries for each in shared)
            assert squares[first, second] == pytest.approx(sum(each.first_norm**2 for each in shared))
            assert squares[second, first] == pytest.approx(sum(each.second_norm**2 for each in shared))
    assert [array.shape for array in shared_entries([])] == [(0, 0), (0, 0)]


@pytest.mark.parametrize("chunk", [1, 4, 1 << 24])
def test_two_models_differ_where_numbers_differ(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_CHUNK", chunk)
    nan = float("nan")
    base = {
        "same": torch.ones(2),
        "w": torch.tensor([[1.0, nan], [0.0, 4.0]]).bfloat16(),
        "scalar": torch.tensor(1.0),
    }
    edited = {
        "same": torch.ones(2),
        "w": torch.tensor([[1.5, nan], [-0.0, 4.0]]).bfloat16(),
        "scalar": torch.tensor(3.0),
    }
    matrix, scalar = weight_differences(base, edited)
    assert (matrix.name, matrix.entries, matrix.share, matrix.norm) == ("w", 1, 0.25, 0.5)
    assert matrix.largest == (EntryChange(0, 0, 0.5),)
    assert (scalar.entries, scalar.norm) == (1, 2.0)
    assert weight_differences(base, base) == []


def test_models_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ConfigError, match="Only one of the models has the weights"):
        weight_differences({"a": torch.ones(1)}, {"b": torch.ones(1)})
    with pytest.raises(ConfigError, match=r"a is \(1,\) torch.float32 in one"):
        weight_differences({"a": torch.ones(1)}, {"a": torch.ones(1).half()})
