"""What one weight was before the deltas, and which deltas touch which of its entries.

A weight's value is fl(original + v_1 + v_2 + …): the original and the values of the deltas that touch the
entry, added in fp32 in commit order, then rounded once to the weight's dtype.

`SingleJournal` serves a weight that one delta touches: its entries, values and originals, 16 bytes for each.

`SparseJournal` takes over at the second delta. It keeps a node for each entry of each delta, in one pool: the
delta's value, the original, and the running total up to here. The nodes of one entry form a chain in commit
order. So a new last delta costs one addition per entry, whatever lies below it, and removing a delta costs
the nodes *above* its own, added again. With n deltas that touch m entries each: O(m) where they do not
overlap, and for the last one anywhere; O(m * depth) to remove the lowest where `depth` deltas overlap.
Memory: 36 bytes for each entry of each delta, and 4 for each entry of the 4 KB pages of the map from entries
to chains that are used.

`DenseJournal` keeps the whole original instead, and adds the deltas up again at every change.
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
    """Assignments to arrays that can be taken back: all planned first, then run at once."""

    _steps: list[tuple[Array, Array, Array, Array]] = field(default_factory=list)

    def add(self, target: Array, where: Array, new: Array, old: Array) -> None:
        """Plan target[where] = new, where `old` is now; `where` holds no index twice."""
        self._steps.append((target, where, new, old))

    def run(self) -> None:
        """Make the assignments."""
        for target, where, new, _ in self._steps:
            target[where] = new

    def undo(self) -> None:
        """Bring back what was there when each assignment was planned."""
        for target, where, _, old in self._steps:
            target[where] = old


@dataclass
class Change:
    """What one delta's coming or going does to one weight; nothing has happened before `commit`.

    Arguments:
        index: (n,) the flat entries that change; None for all.
        before: (n,) float32, what they should hold now, before rounding; None where that is not known.
        after: (n,) float32, what they will hold, before rounding.
        links: the chains' new state.
        finish: the bookkeeping that cannot fail, run last.
    """

    index: Ints | None
    before: Floats | None
    after: Floats
    links: Assignments
    finish: Callable[[], None]


Entries = tuple[Ints, Floats, Floats]
"""One delta's flat entries, its values there, and what the base holds there; each (n,)."""


class SingleJournal:
    """One delta on one weight: all that most weights ever need. It copies nothing but the originals."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, Entries]] = {}

    def __len__(self) -> int:
        return len(self._layers)

    def plan_apply(self, key: str, position: int, index: Ints, value: Floats, current: Floats) -> Change:
        """Plan to add the one delta; `current` is what `index` holds now, as fp32."""

        def finish() -> None:
            self._layers[key] = (position, (index, value, current))

        return Change(index, None, current + value, Assignments(), finish)

    def plan_remove(self, key: str) -> Change:
        """Plan to take it away."""
        index, value, original = self._layers[key][1]
        return Change(index, original + value, original, Assignments(), self._layers.clear)

    def layers(self) -> Iterator[tuple[str, int, Entries]]:
        """The delta's key, its position, and its entries."""
        for key, (position, entries) in self._layers.items():
            yield key, position, entries


@dataclass(frozen=True)
class _Layer:
    position: int
    index: Ints
    nodes: "slice | Nodes"


class SparseJournal:
    """The deltas on one weight, entry by entry.

    Arguments:
        numel: the weight's number of entries.
        first: the journal of the delta that is there already.
    """

    def __init__(self, numel: int, first: SingleJournal) -> None:
        self._layers: dict[str, _Layer] = {}
        # Flat entry -> 1 + its last node; 0 where no delta is. These zeros come from the operating system
        # page by page, when first written.
        self._top = np.zeros(numel, np.int32)
        self._free: list[slice] = []
        self._used = 0
        self._value = np.empty(0, np.float32)
        self._original = np.empty(0, np.float32)
        self._total = np.empty(0, np.float32)
        self._below = np.empty(0, np.int32)
        self._above = np.empty(0, np.int32)
        self._position = np.empty(0, np.int64)
        for key, position, (index, value, original) in first.layers():
            change = self.plan_apply(key, position, index, value, original)
            change.links.run()
            change.finish()

    def __len__(self) -> int:
        return len(self._layers)

    def plan_apply(self, key: str, position: int, index: Ints, value: Floats, current: Floats) -> Change:
        """Plan to add delta `key` at its place in commit order; `current` is what `index` holds now."""
        nodes, reserve = self._reserve(index.size)
        numbers = _numbers(nodes)
        links = Assignments()
        original, before = current.copy(), current.copy()
        below = np.full(index.size, -1, np.int32)
        above = below.copy()
        top = self._top[index] - 1
        hit = np.flatnonzero(top >= 0)
        original[hit] = self._original[top[hit]]
        before[hit] = self._total[top[hit]]
        below[hit], above[hit] = self._place(top[hit], position)
        total = original.copy()
        under, over = hit[below[hit] >= 0], hit[above[hit] >= 0]
        total[under] = self._total[below[under]]
        total += value
        after, _ = self._raise_totals(over, above, total, total, links)
        # The reserved nodes are in no chain yet, so writing them is not a change.
        self._value[nodes], self._original[nodes], self._total[nodes] = value, original, total
        self._below[nodes], self._above[nodes], self._position[nodes] = below, above, position
        links.add(self._above, below[under], numbers[under], above[under])
        links.add(self._below, above[over], numbers[over], below[over])
        last = np.flatnonzero(above < 0) if over.size else slice(None)
        links.add(self._top, index[last], numbers[last] + 1, top[last] + 1)

        def finish() -> None:
            reserve()
            self._layers[key] = _Layer(position, index, nodes)

        return Change(index, before, after, links, finish)

    def plan_remove(self, key: str) -> Change:
        """Plan to take delta `key` away."""
        layer = self._layers[key]
        nodes, numbers = layer.nodes, _numbers(layer.nodes)
        below, above = self._below[nodes], self._above[nodes]
        links = Assignments()
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

        return Change(layer.index, before, after, links, finish)

    def layers(self) -> Iterator[tuple[str, int, Entries]]:
        """For each delta: its key, its position, and its entries."""
        for key, layer in self._layers.items():
            yield key, layer.position, (layer.index, self._value[layer.nodes], self._original[layer.nodes])

    def _place(self, top: Nodes, position: int) -> tuple[Nodes, Nodes]:
        """The nodes just below and just above `position` in the chains that end in `top`; -1 for none."""
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
        """Add the nodes from `above` upwards to `start` again, and plan their new totals.

        `over` are the places where there is a node above. Returns the chains' new last totals and their
        present ones, which is `own_total` where nothing is above.
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
        """Nodes for `size` entries, and the function that takes them out of the free ones."""
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
            self._grow(max(used, self._value.size * 3 // 2))
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


class DenseJournal:
    """The deltas on one weight that at least one of them changes nearly everywhere.

    Arguments:
        original: (numel,) the base weight, in its dtype, on the CPU; not to be written by anyone else.
        layers: the deltas that are there already: their keys, positions and entries.
    """

    def __init__(self, original: Tensor, layers: dict[str, tuple[int, Bands]]) -> None:
        self.original = original
        self._layers = layers

    def __len__(self) -> int:
        return len(self._layers)

    def plan_apply(self, key: str, position: int, bands: Bands) -> Change:
        """Plan to add delta `key`; `bands` gives its entries whenever it is called."""
        return self._plan(self._layers | {key: (position, bands)})

    def plan_remove(self, key: str) -> Change:
        """Plan to take delta `key` away."""
        return self._plan({other: layer for other, layer in self._layers.items() if other != key})

    def _plan(self, layers: dict[str, tuple[int, Bands]]) -> Change:
        total: Floats = self.original.to(torch.float32, copy=True).numpy()
        for _, bands in sorted(layers.values(), key=lambda layer: layer[0]):
            for index, value in bands():
                total[index] += value

        def finish() -> None:
            self._layers = layers

        return Change(None, None, total, Assignments(), finish)
