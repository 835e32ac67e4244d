"""All that a run of the editing benchmark shows, computed from its head and its records alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from roselora.bench.metrics.estimates import BOOTSTRAP_SEED, CostRange
from roselora.bench.metrics.method_summary import MethodSummary, summarize
from roselora.bench.metrics.paired_comparison import Comparison, compare
from roselora.bench.metrics.reliability_by_age import AgeBin, reliability_by_age
from roselora.bench.records.edit_bench_records import EditHead, EditRecord

OURS = "rose"

OUR_EDITING = ("gate", OURS)
"""Our methods of editing, the default of `roselora edit` first."""


@dataclass(frozen=True)
class RunSummary:
    """What a report says, before it is put into words.

    Attributes:
        head: what was run.
        bootstrap_seed: of every bootstrap interval.
        ours: the methods that are compared with each other one: those of ours that have records, or else one that has
            none.
        methods: one row each, in the head's order. Entries that a sequence or batch changed are the head's, counted
            once after all its edits.
        comparisons: of each of ours in turn; empty if none has records, or no other method.
        reliability_by_age: of each method that edits one call after another; empty unless the run was sequential.
    """

    head: EditHead
    bootstrap_seed: int
    ours: Sequence[str]
    methods: Sequence[MethodSummary]
    comparisons: Sequence[Comparison]
    reliability_by_age: Mapping[str, Sequence[AgeBin]]


def summarize_run(
    head: EditHead, records: Sequence[EditRecord], *, ours: Sequence[str] = OUR_EDITING, seed: int = BOOTSTRAP_SEED
) -> RunSummary:
    """Sum up a run, finished or not: every n is that of the records that are there.

    Args:
        ours: the methods to compare with each other one, as far as they have records.
        seed: of the bootstrap.
    """
    run = {record.method for record in records}
    compared = [method for method in ours if method in run] or list(ours[-1:])
    aged = [record for record in records if head.requests_per_call.get(record.method, 1) is not None]
    return RunSummary(
        head=head,
        bootstrap_seed=seed,
        ours=compared,
        methods=[_with_entries(row, head) for row in summarize(records, head.methods, seed=seed)],
        comparisons=[item for method in compared for item in compare(records, method, seed=seed)],
        reliability_by_age=reliability_by_age(aged, head.n) if head.mode == "sequential" else {},
    )


def _with_entries(row: MethodSummary, head: EditHead) -> MethodSummary:
    entries = head.entries.get(row.method)
    if entries is None or not row.costs:  # of a method whose every edit failed, 0 entries would look like thrift
        return row
    return replace(row, costs={**row.costs, "entries": CostRange(entries, entries, entries, 1)})
