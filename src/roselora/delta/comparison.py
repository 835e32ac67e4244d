"""What a delta changes, where two deltas collide, and how two sets of weights differ."""

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
"""How many of the largest moves of a weight are told."""

_CHUNK = 1 << 24
_CELLS = 1 << 22

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Move:
    """One entry's change; `row` and `column` are in the weight as the model stores it."""

    row: int
    column: int
    value: float


@dataclass(frozen=True)
class WeightChange:
    """What happens to one weight.

    Arguments:
        name: the weight's name.
        entries: how many of its entries change.
        share: the same, as a fraction of all its entries.
        norm: the L2 norm of the change.
        largest: the `LARGEST` moves of greatest magnitude, the greatest first.
    """

    name: str
    entries: int
    share: float
    norm: float
    largest: tuple[Move, ...]


@dataclass(frozen=True)
class Collision:
    """The entries of one weight that two deltas both change.

    Arguments:
        name: the weight's name.
        entries: how many entries both change.
        first_norm, second_norm: the L2 norm of each delta's change at these entries.
        largest: the entries where the smaller of the two moves is greatest, with the value of that smaller
            move: where both have most at stake.
    """

    name: str
    entries: int
    first_norm: float
    second_norm: float
    largest: tuple[Move, ...]


def changes(delta: SparseDelta) -> list[WeightChange]:
    """What `delta` adds to each weight, before rounding to the weight's dtype; one item per weight."""
    result = []
    for factors in delta.weights:
        index, value = (part.numpy() for part in factors.expand())
        result.append(_weight_change(factors.name, factors.stored_shape, index, value))
    return result


def collisions(first: SparseDelta, second: SparseDelta) -> list[Collision]:
    """The weights in which both deltas change the same entries; empty if they can't disturb each other.

    Weights are matched by name: two names of one tied weight are not seen as the same.

    Raises:
        ConfigError: the deltas give one weight different shapes.
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
        largest = _largest_moves(factors.stored_shape, shared, smaller)
        result.append(Collision(factors.name, shared.size, _norm(mine), _norm(theirs), largest))
    return result


def shared_entries(deltas: Sequence[SparseDelta]) -> tuple[Ints, Doubles]:
    """What `collisions` tells of each two of many deltas, summed over all weights, in one pass over these.

    Returns:
        How many entries two deltas both change, (n, n) int64; and the squared L2 norm of what the row's delta does at
        those that it shares with the column's, (n, n) float64. The diagonals mean nothing.
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
        for change in _where_several_move([factors.expand() for factors in own]):
            moved = (change != 0).astype(np.float64)
            counts[block] += moved @ moved.T
            squares[block] += np.square(change) @ moved.T
    return counts.astype(np.int64), squares


def _where_several_move(updates: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Doubles]:
    """Of one weight's entries those that two or more updates change, part by part: (n, entries), 0 where one does not.

    Gated neuron edits hardly share an entry, so this is little, whatever their number.
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
    """How the weights of `edited` differ from those of `base` (two state dicts); equal ones are left out.

    An entry counts as changed where the two are not equal as numbers, or only one is NaN. Differences are
    taken in float32. Tensors of any shape: for `Move`, all dimensions but the first are counted as one.

    Raises:
        ConfigError: the two don't hold the same names, shapes and dtypes.
    """
    if base.keys() != edited.keys():
        raise ConfigError(f"The models differ in their weights: {sorted(base.keys() ^ edited.keys())[:5]}.")
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
    """Chunk by chunk, so that a comparison of two large weights needs little memory."""
    for start in range(0, before.numel(), _CHUNK):
        left, right = before[start : start + _CHUNK].cpu(), after[start : start + _CHUNK].cpu()
        differs = (left != right) & ~(left.isnan() & right.isnan())
        place = differs.nonzero()[:, 0]
        if len(place):
            value = right[place].to(torch.float32) - left[place].to(torch.float32)
            yield place.numpy() + start, value.numpy()


def _weight_change(name: str, shape: tuple[int, int], index: Ints, value: Floats) -> WeightChange:
    share = index.size / (shape[0] * shape[1])
    return WeightChange(name, index.size, share, _norm(value), _largest_moves(shape, index, value))


def _norm(value: Floats) -> float:
    return math.sqrt(float(np.square(value, dtype=np.float64).sum()))


def _largest_moves(shape: tuple[int, int], index: Ints, value: Floats) -> tuple[Move, ...]:
    """The greatest by magnitude; of equal ones, those that stand first."""
    magnitude = np.abs(value)
    if value.size > LARGEST:
        at_least = np.partition(magnitude, -LARGEST)[-LARGEST]
        candidates = np.flatnonzero(magnitude >= at_least)
    else:
        candidates = np.arange(value.size)
    order = candidates[np.argsort(-magnitude[candidates], kind="stable")][:LARGEST]
    return tuple(
        Move(int(index[place] // shape[1]), int(index[place] % shape[1]), float(value[place])) for place in order
    )
