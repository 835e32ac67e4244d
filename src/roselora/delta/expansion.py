"""Computes the entries of a product of sparse factors, in fp32 and with the same bits on every machine.

The product is a sum of r outer products, each of which fills a small grid: its k_rows rows by its k_columns columns.
Most rows of the matrix lie in one such grid only, or in none; these are copied. Where grids share a row they are
summed. The dense matrix is never formed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

BAND_ENTRIES = 1 << 20
"""The size in entries of the fp32 grid in which the rows of one band are summed (4 MB)."""


@dataclass(frozen=True)
class _Terms:
    """The outer products, row by row of the matrix.

    Pair p says that to row `row[p]` the product of term `term[p]` adds `weight[p] * values[term[p]]` at
    `columns[term[p]]`. Pairs are sorted by row and, within a row, by term, which is the order of summation.

    Attributes:
        row, term, weight: (pairs,) of all rows of the matrix.
        starts, pairs: (rows of this band,) where each row's pairs begin, and how many they are.
        columns, values: (r, k_columns) the column factors.
        width: the number of columns of the matrix.
    """

    row: Ints
    term: Ints
    weight: Floats
    starts: Ints
    pairs: Ints
    columns: Ints
    values: Floats
    width: int


def expand_bands(
    rows: Ints, row_values: Floats, columns: Ints, column_values: Floats, width: int
) -> Iterator[tuple[Ints, Floats]]:
    """The nonzero entries of Σ outer(row_values[i], column_values[i]) over i = 1…r, band by band of rows.

    Each product is rounded to fp32, then added in fp32 in the order i = 1…r, without fused operations, so every machine
    computes the same bits. Entries that are exactly zero are left out: adding them would only turn -0.0 into 0.0.

    Arguments:
        rows, row_values: (r, k_rows), int64 and float32; indices ascending within each i.
        columns, column_values: (r, k_columns), int64 and float32; indices ascending within each i.
        width: the number of columns of the matrix; a flat index is row * width + column.

    Yields:
        Pairs (flat index int64, value float32), ascending and unique within a band and from band to band.

    Example:
        >>> rows, columns = np.array([[0, 2]]), np.array([[1]])  # one term: rows 0 and 2, column 1
        >>> ((index, value),) = expand_bands(rows, np.float32([[1, 3]]), columns, np.float32([[2]]), width=4)
        >>> index.tolist(), value.tolist()
        ([1, 9], [2.0, 6.0])
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
    """Compute one band: rows with one term are copied, rows with several are summed, and both are merged in order."""
    alone = terms.pairs == 1
    kept = terms.columns.shape[1]
    summed_index, summed_value, summed_count = _sum_rows(terms, ~alone)
    count = np.full(alone.size, kept)
    count[~alone] = summed_count
    copied = np.repeat(alone, count)  # for each entry of the result, whether it is of a row with one term
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
    """Sum the rows that `several` marks: flat index and value of their nonzeros, and how many there are in each row.

    The grid has one row for each marked row and one column for each column that any term has: (rows, breadth).
    """
    starts, pairs = terms.starts[several], terms.pairs[several]
    used_columns, place = np.unique(terms.columns, return_inverse=True)
    place = place.reshape(terms.columns.shape)
    breadth = used_columns.size
    grid = np.zeros((starts.size, breadth), np.float32)
    flat = grid.reshape(-1)
    # At each level the next term of every row is added at once. So no place occurs twice in one addition, where numpy
    # would add only one of the two, and every row adds its terms in their order.
    for level in range(int(pairs.max(initial=0))):
        live = np.flatnonzero(pairs > level)
        pair = starts[live] + level
        term = terms.term[pair]
        product = terms.weight[pair][:, None] * terms.values[term]
        if breadth == terms.columns.shape[1]:
            grid[live] += product  # all terms have the same columns, so nothing needs to be scattered
        else:
            flat[(live * breadth)[:, None] + place[term]] += product
    nonzero = grid != 0
    count: Ints = np.count_nonzero(nonzero, axis=1)
    position = np.flatnonzero(nonzero)
    grid_row = np.repeat(np.arange(starts.size), count)
    value = flat[position]
    position -= grid_row * breadth
    return (terms.row[starts] * terms.width)[grid_row] + used_columns[position], value, count
