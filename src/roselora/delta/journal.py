"""What a weight was before any delta, and which deltas change which of its entries.

A weight's value is fl(original + v_1 + v_2 + …): the original and the values of the deltas that change the entry, added
in fp32 in commit order, then rounded once to the weight's dtype. A journal plans what the entries become when one delta
is added or removed; the overlay writes the plan to the weight. There are three, and a weight has one of them:

`SingleJournal`, for a weight that one delta changes, keeps the delta's entries, values and originals: 16 bytes for each
entry.

`SparseJournal` takes over at the second delta. A new last delta costs one addition for each of its entries, however
many deltas there are already. Removing a delta costs one addition for each entry of a *later* delta that it overlaps.
With m entries in each delta this is O(m) for the last delta, and for any that overlaps no other; O(m * depth) to remove
the first of `depth` deltas that overlap. It takes 36 bytes for each entry of each delta, and 4 for each entry of the
weight in those 4 KB pages of the map from entries to chains that are used.

`DenseJournal`, for a weight that a delta changes nearly everywhere, keeps the whole original and adds all deltas up
again at every change.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from roselora.delta.expansion import Floats, Ints

Nodes = npt.NDArray[np.int32]
Array = npt.NDArray[Any]


@dataclass
class Assignments:
    """Assignments to arrays that are planned one by one, run together, and can be undone."""

    _steps: list[tuple[Array, Array, Array, Array]] = field(default_factory=list)

    def add(self, target: Array, where: Array, new: Array, old: Array) -> None:
        """Plan target[where] = new, where `old` is now; `where` holds no index twice."""
        self._steps.append((target, where, new, old))

    def run(self) -> None:
        """Make the assignments."""
        for target, where, new, _ in self._steps:
            target[where] = new

    def undo(self) -> None:
        """Write back what the arrays held when each assignment was planned; correct also after a partial `run`."""
        for target, where, _, old in self._steps:
            target[where] = old


@dataclass
class PlannedChange:
    """The plan of adding or removing one delta on one weight. Nothing has changed before the overlay carries it out.

    Arguments:
        index: (n,) the flat entries that change; None for all.
        before: (n,) float32, what they should hold now, before rounding; None if that is not known.
        after: (n,) float32, what they will hold, before rounding.
        links: the changes to the journal that can be undone, to run once the weight is written.
        finish: the rest of the journal's changes, which cannot fail, to run last.
    """

    index: Ints | None
    before: Floats | None
    after: Floats
    links: Assignments
    finish: Callable[[], None]


Entries = tuple[Ints, Floats, Floats]
"""One delta's flat entries, its values there, and what the base holds there; each (n,)."""


class SingleJournal:
    """One delta on one weight, which is the usual case. Only the originals are copied; the rest is the delta's own."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, Entries]] = {}

    def __len__(self) -> int:
        return len(self._layers)

    def plan_apply(self, key: str, position: int, index: Ints, value: Floats, current: Floats) -> PlannedChange:
        """Plan to add the one delta; `current` is what `index` holds now, as fp32."""

        def finish() -> None:
            self._layers[key] = (position, (index, value, current))

        return PlannedChange(index, None, current + value, Assignments(), finish)

    def plan_remove(self, key: str) -> PlannedChange:
        """Plan to remove it."""
        index, value, original = self._layers[key][1]
        return PlannedChange(index, original + value, original, Assignments(), self._layers.clear)

    def layers(self) -> Iterator[tuple[str, int, Entries]]:
        """Its key, its position, and its entries."""
        for key, (position, entries) in self._layers.items():
            yield key, position, entries


@dataclass(frozen=True)
class _Layer:
    """One delta in a SparseJournal: its entries, and the node of each; consecutive nodes are a slice."""

    position: int
    index: Ints
    nodes: "slice | Nodes"


class SparseJournal:
    """Several deltas on one weight.

    Every entry of every delta is a node. The nodes of one entry of the weight form a chain in commit order:

        _top[entry] - 1 → node of delta 7 → node of delta 4 → node of delta 1     (`_below`; `_above` leads back)
                   total: o + v1 + v4 + v7   o + v1 + v4       o + v1

    The last node's total is the entry's value before rounding. A delta that comes or goes in the middle changes the
    totals above it, and no other. All nodes lie in one pool of arrays, and a node is its number in them.

    Arguments:
        numel: the weight's number of entries.
        first: the journal of the delta that is there already.
    """

    def __init__(self, numel: int, first: SingleJournal) -> None:
        self._layers: dict[str, _Layer] = {}
        # By flat entry, 1 + the last node of its chain; 0 where no delta is. The zeros cost no memory before they are
        # written: the operating system maps them page by page. That is why it is not -1 that means "none" here.
        self._top = np.zeros(numel, np.int32)
        self._value = np.empty(0, np.float32)  # what the delta adds
        self._original = np.empty(0, np.float32)  # the base's value; the same in all nodes of a chain
        self._total = np.empty(0, np.float32)  # the original and the values from the chain's first node up to this one
        self._below = np.empty(0, np.int32)  # the neighbours in the chain; -1 at its ends
        self._above = np.empty(0, np.int32)
        self._position = np.empty(0, np.int64)  # the delta's place in commit order
        # Runs of nodes that removed deltas have left. A new delta takes these first and then nodes from `_used` on,
        # mostly consecutive ones: a slice of the pool is copied several times faster than scattered nodes.
        self._free: list[slice] = []
        self._used = 0
        for key, position, (index, value, original) in first.layers():
            change = self.plan_apply(key, position, index, value, original)
            change.links.run()
            change.finish()

    def __len__(self) -> int:
        return len(self._layers)

    def plan_apply(self, key: str, position: int, index: Ints, value: Floats, current: Floats) -> PlannedChange:
        """Plan to add delta `key` at its place in commit order; `current` is what `index` holds now. All are (n,)."""
        nodes, reserve = self._reserve(index.size)
        numbers = _numbers(nodes)
        links = Assignments()
        below = np.full(index.size, -1, np.int32)
        above = below.copy()
        # Where a chain exists, the weight holds the rounded total of its last node, and the original is in its nodes.
        original, before = current.copy(), current.copy()
        top = self._top[index] - 1
        hit = np.flatnonzero(top >= 0)
        original[hit] = self._original[top[hit]]
        before[hit] = self._total[top[hit]]
        below[hit], above[hit] = self._neighbours(top[hit], position)
        total = original.copy()
        under, over = hit[below[hit] >= 0], hit[above[hit] >= 0]
        total[under] = self._total[below[under]]
        total += value
        after, _ = self._raise_totals(over, above, total, total, links)
        # No chain leads to the new nodes yet, so writing them needs no undo. The links are what inserts them.
        self._value[nodes], self._original[nodes], self._total[nodes] = value, original, total
        self._below[nodes], self._above[nodes], self._position[nodes] = below, above, position
        links.add(self._above, below[under], numbers[under], above[under])
        links.add(self._below, above[over], numbers[over], below[over])
        last = np.flatnonzero(above < 0) if over.size else slice(None)
        links.add(self._top, index[last], numbers[last] + 1, top[last] + 1)

        def finish() -> None:
            reserve()
            self._layers[key] = _Layer(position, index, nodes)

        return PlannedChange(index, before, after, links, finish)

    def plan_remove(self, key: str) -> PlannedChange:
        """Plan to remove delta `key`."""
        layer = self._layers[key]
        nodes, numbers = layer.nodes, _numbers(layer.nodes)
        below, above = self._below[nodes], self._above[nodes]
        links = Assignments()
        # The totals above are added up again from the node below, or from the original.
        start = self._original[nodes].copy()
        under, over = np.flatnonzero(below >= 0), np.flatnonzero(above >= 0)
        start[under] = self._total[below[under]]
        after, before = self._raise_totals(over, above, start, self._total[nodes], links)
        links.add(self._above, below[under], above[under], numbers[under])
        links.add(self._below, above[over], below[over], numbers[over])
        last = np.flatnonzero(above < 0) if over.size else slice(None)
        links.add(self._top, layer.index[last], below[last] + 1, numbers[last] + 1)

        def finish() -> None:
            self._free += _runs(nodes)
            del self._layers[key]

        return PlannedChange(layer.index, before, after, links, finish)

    def layers(self) -> Iterator[tuple[str, int, Entries]]:
        """For each delta: its key, its position, and its entries."""
        for key, layer in self._layers.items():
            yield key, layer.position, (layer.index, self._value[layer.nodes], self._original[layer.nodes])

    def _neighbours(self, top: Nodes, position: int) -> tuple[Nodes, Nodes]:
        """The nodes just below and just above `position` in the chains that end in `top`, (n,); -1 for none.

        All chains are walked down at once, one node at each turn, until each has passed the position. A new delta is
        usually the last one, and then no chain needs a turn.
        """
        below, above = top.copy(), np.full(top.size, -1, np.int32)
        live = np.flatnonzero(self._position[below] > position)
        while live.size:
            above[live] = below[live]
            below[live] = self._below[below[live]]
            live = live[below[live] >= 0]
            live = live[self._position[below[live]] > position]
        return below, above

    def _raise_totals(
        self, over: Ints, above: Nodes, start: Floats, own_total: Floats, links: Assignments
    ) -> tuple[Floats, Floats]:
        """Add the values of all nodes from `above` upwards to `start`, and plan the new totals of these nodes.

        fp32 addition is not associative: the difference that a delta makes cannot be added to or subtracted from a
        total. Each total is the sum of the same values in the same order as if the delta had never been there, or
        always.

        Arguments:
            over: the places in (n,) where there is a node above.
            above: (n,) the lowest node to raise.
            start: (n,) the total below that node.
            own_total: (n,) the present last total of the chains with nothing above.

        Returns:
            The new and the present totals of the chains' last nodes, each (n,).
        """
        if not over.size:
            return start, own_total
        after, before = start.copy(), own_total.copy()
        live, node = over, above[over]
        while live.size:
            before[live] = self._total[node]
            after[live] += self._value[node]
            links.add(self._total, node, after[live], before[live])
            node = self._above[node]
            live, node = live[node >= 0], node[node >= 0]
        return after, before

    def _reserve(self, size: int) -> tuple["slice | Nodes", Callable[[], None]]:
        """Nodes for `size` entries, and the function that marks them as used."""
        runs: list[slice] = []
        free, missing = list(self._free), size
        while free and missing:
            run = free.pop()
            middle = min(run.stop, run.start + missing)
            runs.append(slice(run.start, middle))
            if middle < run.stop:
                free.append(slice(middle, run.stop))
            missing -= middle - run.start
        used = self._used + missing
        if used > self._value.size:
            self._grow(max(used, self._value.size * 3 // 2))  # by half at least, so that growing costs O(1) per node
        if missing or not runs:
            runs.append(slice(self._used, used))

        def reserve() -> None:
            self._free, self._used = free, used

        return (runs[0] if len(runs) == 1 else np.concatenate([_numbers(run) for run in runs])), reserve

    def _grow(self, capacity: int) -> None:
        for name in ("_value", "_original", "_total", "_below", "_above", "_position"):
            old: Array = getattr(self, name)
            new = np.empty(capacity, old.dtype)
            new[: self._used] = old[: self._used]
            setattr(self, name, new)


def _numbers(nodes: "slice | Nodes") -> Nodes:
    return np.arange(nodes.start, nodes.stop, dtype=np.int32) if isinstance(nodes, slice) else nodes


def _runs(nodes: "slice | Nodes") -> list[slice]:
    """The stretches of consecutive nodes, in order."""
    if isinstance(nodes, slice):
        return [nodes] if nodes.stop > nodes.start else []
    ends = [0, *(np.flatnonzero(np.diff(nodes) != 1) + 1).tolist(), nodes.size]
    return [slice(int(nodes[a]), int(nodes[b - 1]) + 1) for a, b in itertools.pairwise(ends)]


Bands = Callable[[], Iterable[tuple[Ints, Floats]]]
"""Gives a delta's flat entries and values part by part, each time it is called, so that they need not be kept."""


class DenseJournal:
    """The deltas on one weight that at least one of them changes nearly everywhere.

    Arguments:
        original: (numel,) the base weight, in its dtype, on the CPU; nobody else may write to it.
        layers: the deltas that are there already, by key: their positions and entries.
    """

    def __init__(self, original: Tensor, layers: dict[str, tuple[int, Bands]]) -> None:
        self.original = original
        self._layers = layers

    def __len__(self) -> int:
        return len(self._layers)

    def plan_apply(self, key: str, position: int, bands: Bands) -> PlannedChange:
        """Plan to add delta `key`; `bands` gives its entries whenever it is called."""
        return self._plan(self._layers | {key: (position, bands)})

    def plan_remove(self, key: str) -> PlannedChange:
        """Plan to remove delta `key`."""
        return self._plan({other: layer for other, layer in self._layers.items() if other != key})

    def _plan(self, layers: dict[str, tuple[int, Bands]]) -> PlannedChange:
        total: Floats = self.original.to(torch.float32, copy=True).numpy()
        for _, bands in sorted(layers.values(), key=lambda layer: layer[0]):
            for index, value in bands():
                total[index] += value

        def finish() -> None:
            self._layers = layers

        return PlannedChange(None, None, total, Assignments(), finish)
