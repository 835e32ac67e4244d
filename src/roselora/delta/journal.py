"""What one weight was before the deltas, and which deltas touch which of its entries.

A weight's value is fl(original + v_1 + v_2 + …): the original and the values of the deltas that touch the
entry, added in fp32 in commit order, then rounded once to the weight's dtype.

`SparseJournal` keeps a node for each entry of each delta, in one pool: the delta's value, the original, and
the running total up to here. The nodes of one entry form a chain in commit order. So a new last delta costs
one addition per entry, whatever lies below it, and removing a delta costs the nodes *above* its own, added
again.
With n deltas that touch m entries each: O(m) where they do not overlap and for the last one anywhere;
    O(m·depth)
to remove the lowest where `depth` deltas overlap. Memory: 28 bytes per node and 12 per entry of a delta, and,
from a weight's second delta on, 4 bytes for each entry of the 4 KB pages of the map that are touched.

`DenseJournal` keeps the whole original instead, and adds the deltas up again at every change.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from roselora.delta.expand import Floats, Ints

Nodes = npt.NDArray[np.int32]
Array = npt.NDArray[Any]


@dataclass
class Assignments:
    """Assignments to arrays that can be taken back: all planned first, then run at once."""

    _steps: list[tuple[Array, Array, Array, Array]] = field(default_factory=list)

    def add(self, target: Array, where: Array, new: Array) -> None:
        """Plan target[where] = new; `where` holds no index twice."""
        self._steps.append((target, where, new, target[where]))

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


@dataclass(frozen=True)
class _Layer:
    position: int
    index: Ints
    nodes: Nodes


class SparseJournal:
    """The deltas on one weight, entry by entry.

    Arguments:
        numel: the weight's number of entries.
    """

    def __init__(self, numel: int) -> None:
        self._numel = numel
        self._layers: dict[str, _Layer] = {}
        self._top: Nodes | None = None  # flat entry -> 1 + its last node; 0 where no delta is
        self._free: list[Nodes] = []
        self._used = 0
        self._value = np.empty(0, np.float32)
        self._original = np.empty(0, np.float32)
        self._total = np.empty(0, np.float32)
        self._below = np.empty(0, np.int32)
        self._above = np.empty(0, np.int32)
        self._position = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._layers)

    def plan_apply(self, key: str, position: int, index: Ints, value: Floats, current: Floats) -> Change:
        """Plan to add delta `key` at its place in commit order; `current` is what `index` holds now."""
        nodes, reserve = self._reserve(index.size)
        original, before = current, current
        below = np.full(index.size, -1, np.int32)
        above = below.copy()
        links = Assignments()
        if self._layers:
            top = self._map()[index] - 1
            hit = np.flatnonzero(top >= 0)
            original, before = current.copy(), current.copy()
            original[hit] = self._original[top[hit]]
            before[hit] = self._total[top[hit]]
            below[hit], above[hit] = self._place(top[hit], position)
        total = original.copy()
        under, over = np.flatnonzero(below >= 0), np.flatnonzero(above >= 0)
        total[under] = self._total[below[under]]
        total += value
        after, _ = self._raise_totals(above, total, total, links)
        # The reserved nodes are in no chain yet, so writing them is not a change.
        self._value[nodes], self._original[nodes], self._total[nodes] = value, original, total
        self._below[nodes], self._above[nodes], self._position[nodes] = below, above, position
        links.add(self._above, below[under], nodes[under])
        links.add(self._below, above[over], nodes[over])
        if self._top is not None:
            last = np.flatnonzero(above < 0)
            links.add(self._top, index[last], nodes[last] + 1)

        def finish() -> None:
            reserve()
            self._layers[key] = _Layer(position, index, nodes)

        return Change(index, before, after, links, finish)

    def plan_remove(self, key: str) -> Change:
        """Plan to take delta `key` away."""
        layer = self._layers[key]
        nodes = layer.nodes
        below, above = self._below[nodes], self._above[nodes]
        links = Assignments()
        start = self._original[nodes]
        under, over = np.flatnonzero(below >= 0), np.flatnonzero(above >= 0)
        start[under] = self._total[below[under]]
        after, before = self._raise_totals(above, start, self._total[nodes], links)
        links.add(self._above, below[under], above[under])
        links.add(self._below, above[over], below[over])
        if self._top is not None:
            last = np.flatnonzero(above < 0)
            links.add(self._top, layer.index[last], below[last] + 1)

        def finish() -> None:
            self._free.append(nodes)
            del self._layers[key]

        return Change(layer.index, before, after, links, finish)

    def layers(self) -> Iterator[tuple[str, int, Ints, Floats, Floats]]:
        """For each delta: its key, its position, its entries, its values, and what the base holds there."""
        for key, layer in self._layers.items():
            yield key, layer.position, layer.index, self._value[layer.nodes], self._original[layer.nodes]

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
        self, above: Nodes, start: Floats, own_total: Floats, links: Assignments
    ) -> tuple[Floats, Floats]:
        """Add the nodes from `above` upwards to `start` again, and plan their new totals.

        Returns the chains' new last totals and their present ones, `own_total` where nothing is above.
        """
        after, before = start.copy(), own_total.copy()
        live = np.flatnonzero(above >= 0)
        node = above[live]
        while live.size:
            before[live] = self._total[node]
            after[live] += self._value[node]
            links.add(self._total, node, after[live])
            node = self._above[node]
            live, node = live[node >= 0], node[node >= 0]
        return after, before

    def _map(self) -> Nodes:
        """The map from entries to last nodes: made for the second delta, since one alone needs none."""
        if self._top is None:
            # Zeros come from the operating system page by page, when first written.
            top = np.zeros(self._numel, np.int32)
            for layer in self._layers.values():
                top[layer.index] = layer.nodes + 1
            self._top = top
        return self._top

    def _reserve(self, size: int) -> tuple[Nodes, Callable[[], None]]:
        """Nodes for `size` entries, and the function that takes them out of the free ones."""
        parts: list[Nodes] = []
        free, missing = list(self._free), size
        while free and missing:
            block = free.pop()
            parts.append(block[:missing])
            if block.size > missing:
                free.append(block[missing:])
            missing -= parts[-1].size
        used = self._used + missing
        if used > self._value.size:
            self._grow(max(used, self._value.size * 3 // 2))
        nodes = np.concatenate([*parts, np.arange(self._used, used, dtype=np.int32)])

        def reserve() -> None:
            self._free, self._used = free, used

        return nodes, reserve

    def _grow(self, capacity: int) -> None:
        for name in ("_value", "_original", "_total", "_below", "_above", "_position"):
            old: Array = getattr(self, name)
            new = np.empty(capacity, old.dtype)
            new[: self._used] = old[: self._used]
            setattr(self, name, new)


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
