"""From sparse factors to the entries of their product, in fp32 and always with the same bits."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

BAND_ENTRIES = 1 << 20
"""The size, in fp32 entries, of the scratch grid that one band of rows may use (4 MB)."""


@dataclass(frozen=True)
class _Terms:
    """The outer products, seen by rows: pair p says that `term[p]` reaches `row[p]` with `weight[p]`.

    Pairs are sorted by row and, within a row, by term, which is the order of summation. `starts` says where
    each row's pairs begin and `pairs` how many there are.
    """

    row: Ints
    term: Ints
    weight: Floats
    starts: Ints
    pairs: Ints
    columns: Ints  # (r, k)
    values: Floats  # (r, k)
    width: int


def expand_bands(
    rows: Ints, row_values: Floats, columns: Ints, column_values: Floats, width: int
) -> Iterator[tuple[Ints, Floats]]:
    """The nonzero entries of Σ outer(row_values[i], column_values[i]) over i = 1…r, band by band of rows.

    Arguments:
        rows, row_values: (r, k_rows), int64 and float32; indices ascending within each i.
        columns, column_values: (r, k_columns), int64 and float32; indices ascending within each i.
        width: the number of columns of the matrix; a flat index is row * width + column.

    Yields pairs (flat index int64, value float32), ascending and unique within a band and from band to band.
    Each product is rounded to fp32, then added in fp32 in the order i = 1…r, never fused: so every machine
    gets the same bits. Entries that are exactly zero are left out: adding them would only turn -0.0 into 0.0.
    """
    kept_rows = rows.shape[1]
    flat_row, flat_weight = rows.reshape(-1), row_values.reshape(-1)
    used = np.flatnonzero(flat_weight)
    if used.size == 0:
        return
    used = used[np.argsort(flat_row[used], kind="stable")]
    row, term, weight = flat_row[used], used // kept_rows, flat_weight[used]
    starts = np.flatnonzero(np.concatenate(([True], row[1:] != row[:-1])))
    pairs = np.diff(starts, append=row.size)
    rows_per_band = max(1, BAND_ENTRIES // min(width, columns.size))
    for first in range(0, starts.size, rows_per_band):
        band = slice(first, first + rows_per_band)
        yield _expand_band(_Terms(row, term, weight, starts[band], pairs[band], columns, column_values, width))


def _expand_band(terms: _Terms) -> tuple[Ints, Floats]:
    """Rows that one term reaches are copied out; only rows that several terms reach need summing."""
    alone = terms.pairs == 1
    kept = terms.columns.shape[1]
    summed_index, summed_value, summed_count = _sum_rows(terms, ~alone)
    count = np.full(alone.size, kept)
    count[~alone] = summed_count
    copied = np.repeat(alone, count)
    index = np.empty(copied.size, np.int64)
    value = np.empty(copied.size, np.float32)
    pair = terms.starts[alone]
    term = terms.term[pair]
    places = terms.columns[term]
    places += (terms.row[pair] * terms.width)[:, None]
    index[copied] = places.reshape(-1)
    value[copied] = (terms.weight[pair][:, None] * terms.values[term]).reshape(-1)
    if summed_index.size:
        index[~copied] = summed_index
        value[~copied] = summed_value
    if np.count_nonzero(value) < value.size:
        nonzero = np.flatnonzero(value)
        return index[nonzero], value[nonzero]
    return index, value


def _sum_rows(terms: _Terms, several: npt.NDArray[np.bool_]) -> tuple[Ints, Floats, Ints]:
    """Sum the rows that `several` marks: flat index and value of the nonzeros, and how many in each row."""
    starts, pairs = terms.starts[several], terms.pairs[several]
    used_columns, place = np.unique(terms.columns, return_inverse=True)
    place = place.reshape(terms.columns.shape)
    breadth = used_columns.size
    grid = np.zeros((starts.size, breadth), np.float32)
    flat = grid.reshape(-1)
    # Level by level, the i-th term of every row at once: no place occurs twice, and the order of terms is
    # kept.
    for level in range(int(pairs.max(initial=0))):
        live = np.flatnonzero(pairs > level)
        pair = starts[live] + level
        term = terms.term[pair]
        product = terms.weight[pair][:, None] * terms.values[term]
        if breadth == terms.columns.shape[1]:
            grid[live] += product  # every term uses the same columns: no scattering
        else:
            flat[(live * breadth)[:, None] + place[term]] += product
    nonzero = grid != 0
    count: Ints = np.count_nonzero(nonzero, axis=1)
    position = np.flatnonzero(nonzero)
    grid_row = np.repeat(np.arange(starts.size), count)
    value = flat[position]
    position -= grid_row * breadth
    return (terms.row[starts] * terms.width)[grid_row] + used_columns[position], value, count
