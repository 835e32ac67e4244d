"""Whether edits still hold after more edits have followed them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from roselora.bench.metrics.edit_values import reliability
from roselora.bench.metrics.estimates import Estimate, estimate
from roselora.bench.records.edit_bench_records import EditRecord, FormName

MOST_BINS = 10
LEAST_EDITS = 10


@dataclass(frozen=True)
class AgeBin:
    """The edits that ``youngest`` to ``oldest`` others followed, and how many of them hold in the end."""

    youngest: int
    oldest: int
    reliability: Estimate


def reliability_by_age(records: Sequence[EditRecord], n: int, form: FormName = "bare") -> dict[str, list[AgeBin]]:
    """For each method, reliability in one form by the number of later edits, in bins of equal width.

    There are at most ten bins, and fewer if a bin would span fewer than ten edits. Failed edits count as 0.

    Args:
        records: of a sequential run, scored after its last edit.
        n: how many edits the run has; the age of an edit is n - 1 - its position.
    """
    count = max(1, min(MOST_BINS, n // LEAST_EDITS))
    edges = [number * n // count for number in range(count + 1)]
    found: dict[str, list[AgeBin]] = {}
    for method in dict.fromkeys(record.method for record in records):
        ages = [(n - 1 - record.position, record) for record in records if record.method == method]
        found[method] = []
        for low, high in pairwise(edges):
            rate = estimate((reliability(record, form) for age, record in ages if low <= age < high), share=True)
            if rate is not None:
                found[method].append(AgeBin(low, high - 1, rate))
    return found
