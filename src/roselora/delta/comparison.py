"""Compares deltas and weights: what a delta changes, where two deltas collide, and how two models differ."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from roselora.delta.expansion import Floats, Ints
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import ConfigError

LARGEST = 5
"""How many of a weight's largest changes are reported."""

_CHUNK = 1 << 24
"""How many entries of two models' weights are compared at a time."""

_CELLS = 1 << 22
"""How many cells, deltas times entries, the table of one weight's shared entries may have at a time."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EntryChange:
    """The change of one entry; `row` and `column` are those of the weight as the model stores it."""

    row: int
    column: int
    value: float


@dataclass(frozen=True)
class WeightChange:
    """The change of one weight.

    Arguments:
        name: the weight's name.
        entries: how many of its entries change.
        share: the same, as a fraction of all its entries.
        norm: the L2 norm of the change.
        largest: the `LARGEST` changes of greatest magnitude, the greatest first.
    """

    name: str
    entries: int
    share: float
    norm: float
    largest: tuple[EntryChange, ...]


@dataclass(frozen=True)
class Collision:
    """The entries of one weight that two deltas both change.

    Arguments:
        name: the weight's name.
        entries: how many entries both change.
        first_norm, second_norm: the L2 norm of each delta's change at these entries.
        largest: the entries where the smaller of the two changes is greatest, with the value of that smaller change.
            These are the entries that matter most to both.
    """

    name: str
    entries: int
    first_norm: float
    second_norm: float
    largest: tuple[EntryChange, ...]


def changes(delta: SparseDelta) -> list[WeightChange]:
    """What `delta` adds to each weight, before rounding to the weight's dtype.

    >>> from roselora.delta.layer_kinds import layer_factors
    >>> A, B = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0], [0.0], [3.0]])
    >>> (change,) = changes(SparseDelta((layer_factors("layer", torch.nn.Linear(2, 3), A, B, scale=1.0),)))
    >>> change.entries, change.largest[0]
    (2, EntryChange(row=2, column=1, value=6.0))
    """
    result = []
    for factors in delta.weights:
        index, value = (part.numpy() for part in factors.expand())
        result.append(_weight_change(factors.name, factors.stored_shape, index, value))
    return result


def collisions(first: SparseDelta, second: SparseDelta) -> list[Collision]:
    """The weights in which both deltas change the same entries; empty if the deltas cannot disturb each other.

    Weights are matched by name, so the two names of a tied weight count as two weights.

    Raises:
        ConfigError: the deltas give one weight different shapes.

    Example:
        >>> from roselora.delta.layer_kinds import layer_factors
        >>> A, B = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0], [0.0], [3.0]])
        >>> delta = SparseDelta((layer_factors("layer", torch.nn.Linear(2, 3), A, B, scale=1.0),))
        >>> [collision.entries for collision in collisions(delta, delta)]
        [2]
    """
    others = {factors.name: factors for factors in second.weights}
    result = []
    for factors in first.weights:
        other = others.get(factors.name)
        if other is None:
            continue
        if factors.stored_shape != other.stored_shape:
            raise ConfigError(
                f"{factors.name} is {factors.stored_shape} in one delta, {other.stored_shape} in the other."
            )
        (index, value), (other_index, other_value) = factors.expand(), other.expand()
        shared, here, there = np.intersect1d(
            index.numpy(), other_index.numpy(), assume_unique=True, return_indices=True
        )
        if shared.size == 0:
            continue
        mine, theirs = value.numpy()[here], other_value.numpy()[there]
        smaller = np.where(np.abs(mine) <= np.abs(theirs), mine, theirs)
        largest = _largest_changes(factors.stored_shape, shared, smaller)
        result.append(Collision(factors.name, shared.size, _norm(mine), _norm(theirs), largest))
    return result


def shared_entries(deltas: Sequence[SparseDelta]) -> tuple[Ints, Doubles]:
    """The collisions of every pair of n deltas, summed over all weights, in one pass over the weights.

    Returns:
        How many entries deltas i and j both change, (n, n) int64; and the squared L2 norm of delta i's change at the
        entries that it shares with delta j, (n, n) float64. The diagonals have no meaning.

    Example:
        >>> from roselora.delta.layer_kinds import layer_factors
        >>> A, B = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0], [0.0], [3.0]])
        >>> delta = SparseDelta((layer_factors("layer", torch.nn.Linear(2, 3), A, B, scale=1.0),))
        >>> counts, squares = shared_entries([delta, delta])
        >>> int(counts[0, 1]), float(squares[0, 1])  # 2² + 6²
        (2, 40.0)
    """
    counts = np.zeros((len(deltas), len(deltas)), np.float64)
    squares = np.zeros_like(counts)
    touching: dict[str, list[int]] = {}
    for number, delta in enumerate(deltas):
        for factors in delta.weights:
            touching.setdefault(factors.name, []).append(number)
    for name, numbers in touching.items():
        own = [factors for number in numbers for factors in deltas[number].weights if factors.name == name]
        block = np.ix_(numbers, numbers)
        for change in _where_several_change([factors.expand() for factors in own]):
            # change: (deltas on this weight, entries). Products with its transpose sum over the entries of each pair.
            changed = (change != 0).astype(np.float64)
            counts[block] += changed @ changed.T
            squares[block] += np.square(change) @ changed.T
    return counts.astype(np.int64), squares


def _where_several_change(updates: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Doubles]:
    """The entries of one weight that two or more of n updates change, part by part: (n, entries), 0 where one does not.

    Gated neuron edits hardly share an entry, so this table is small, however many there are.
    """
    entries = [(index.numpy(), value.numpy()) for index, value in updates]
    index, times = np.unique(np.concatenate([at for at, _ in entries]), return_counts=True)
    shared = index[times > 1]
    places = []
    for at, value in entries:
        hit = np.isin(at, shared, assume_unique=True)
        places.append((np.searchsorted(shared, at[hit]), value[hit]))
    width = _CELLS // len(entries) + 1
    for start in range(0, shared.size, width):
        change = np.zeros((len(entries), min(width, shared.size - start)))
        for row, (place, value) in zip(change, places, strict=True):
            here = slice(*np.searchsorted(place, (start, start + width)))
            row[place[here] - start] = value[here]
        yield change


def weight_differences(base: Mapping[str, Tensor], edited: Mapping[str, Tensor]) -> list[WeightChange]:
    """How the weights of `edited` differ from those of `base` (two state dicts); equal weights are left out.

    An entry is changed if the two numbers are not equal, or only one is NaN. Differences are computed in float32.
    Weights may have any shape: in `EntryChange` all dimensions but the first are flattened to columns.

    Raises:
        ConfigError: the two do not hold the same names, shapes and dtypes.

    Example:
        >>> base = {"w": torch.zeros(2, 2)}
        >>> edited = {"w": torch.tensor([[0.0, 0.0], [0.5, 0.0]])}
        >>> [(change.name, change.entries, change.norm) for change in weight_differences(base, edited)]
        [('w', 1, 0.5)]
    """
    if base.keys() != edited.keys():
        raise ConfigError(f"Only one of the models has the weights {sorted(base.keys() ^ edited.keys())[:5]}.")
    result = []
    for name, before in base.items():
        after = edited[name]
        if before.shape != after.shape or before.dtype != after.dtype:
            raise ConfigError(
                f"{name} is {tuple(before.shape)} {before.dtype} in one model and {tuple(after.shape)} "
                f"{after.dtype} in the other."
            )
        parts = list(_differing_parts(before.detach().reshape(-1), after.detach().reshape(-1)))
        if parts:
            index = np.concatenate([part[0] for part in parts])
            value = np.concatenate([part[1] for part in parts])
            rows = before.shape[0] if before.ndim else 1
            result.append(_weight_change(name, (rows, before.numel() // rows), index, value))
    return result


def _differing_parts(before: Tensor, after: Tensor) -> Iterator[tuple[Ints, Floats]]:
    """Index and difference of the changed entries, chunk by chunk, so that large weights need little memory."""
    for start in range(0, before.numel(), _CHUNK):
        left, right = before[start : start + _CHUNK].cpu(), after[start : start + _CHUNK].cpu()
        differs = (left != right) & ~(left.isnan() & right.isnan())
        place = differs.nonzero()[:, 0]
        if len(place):
            value = right[place].to(torch.float32) - left[place].to(torch.float32)
            yield place.numpy() + start, value.numpy()


def _weight_change(name: str, shape: tuple[int, int], index: Ints, value: Floats) -> WeightChange:
    share = index.size / (shape[0] * shape[1])
    return WeightChange(name, index.size, share, _norm(value), _largest_changes(shape, index, value))


def _norm(value: Floats) -> float:
    return math.sqrt(float(np.square(value, dtype=np.float64).sum()))


def _largest_changes(shape: tuple[int, int], index: Ints, value: Floats) -> tuple[EntryChange, ...]:
    """The greatest changes by magnitude; of equal ones, the first."""
    magnitude = np.abs(value)
    if value.size > LARGEST:  # a partition is linear; only what reaches its threshold needs sorting
        at_least = np.partition(magnitude, -LARGEST)[-LARGEST]
        candidates = np.flatnonzero(magnitude >= at_least)
    else:
        candidates = np.arange(value.size)
    order = candidates[np.argsort(-magnitude[candidates], kind="stable")][:LARGEST]
    return tuple(
        EntryChange(int(index[place] // shape[1]), int(index[place] % shape[1]), float(value[place])) for place in order
    )
