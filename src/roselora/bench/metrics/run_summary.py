"""Everything that the report of an editing run shows, computed from its head and its records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from roselora.bench.metrics.estimates import BOOTSTRAP_SEED, CostRange
from roselora.bench.metrics.method_summary import MethodSummary, summarize
from roselora.bench.metrics.paired_comparison import Comparison, compare
from roselora.bench.metrics.reliability_by_age import AgeBin, reliability_by_age
from roselora.bench.records.edit_bench_records import EditHead, EditRecord, FormName

OURS = "rose"

OUR_EDITING = ("gate", OURS)
"""Our editing methods; the default of `roselora edit` comes first."""


@dataclass(frozen=True)
class RunSummary:
    """The content of a report.

    Attributes:
        head: what was run.
        bootstrap_seed: of every bootstrap interval.
        ours: the methods that are compared with each other one: those of ours that have records, else the last one.
        methods: one row each, in the head's order. The number of entries that a sequence or batch changed is the
            head's, counted once after all its edits. ``first_seconds`` include loading the model and what the method
            measures of it before its first edit; there are none where these are not known, or edits are not single.
        comparisons: of each of ours in turn; empty if none has records, or no other method.
        reliability_by_age: by form, of each method that edits one call after another; empty unless the run was
            sequential.
    """

    head: EditHead
    bootstrap_seed: int
    ours: Sequence[str]
    methods: Sequence[MethodSummary]
    comparisons: Sequence[Comparison]
    reliability_by_age: Mapping[FormName, Mapping[str, Sequence[AgeBin]]]


def summarize_run(
    head: EditHead, records: Sequence[EditRecord], *, ours: Sequence[str] = OUR_EDITING, seed: int = BOOTSTRAP_SEED
) -> RunSummary:
    """Summarize a run, finished or not: every n counts the records that are there.

    Args:
        ours: the methods to compare with each other one, if they have records.
        seed: of the bootstrap.
    """
    run = {record.method for record in records}
    compared = [method for method in ours if method in run] or list(ours[-1:])
    one_after_another = [record for record in records if head.requests_per_call.get(record.method, 1) is not None]
    return RunSummary(
        head=head,
        bootstrap_seed=seed,
        ours=compared,
        methods=[_with_head(row, head) for row in summarize(records, head.methods, forms=head.forms, seed=seed)],
        comparisons=[item for method in compared for item in compare(records, method, forms=head.forms, seed=seed)],
        reliability_by_age={
            form: reliability_by_age(one_after_another, head.n, form)
            for form in (head.forms if head.mode == "sequential" else ())
        },
    )


def _with_head(row: MethodSummary, head: EditHead) -> MethodSummary:
    """The row with the costs that only the head knows; none for a method whose every edit failed."""
    costs = dict(row.costs)
    first = costs.pop("first_seconds", None)
    if first is None:
        return row
    if head.mode == "single" and head.loading_seconds is not None and row.method in head.preparation_seconds:
        costs["first_seconds"] = _counted_once(
            head.loading_seconds + head.preparation_seconds[row.method] + first.median
        )
    if row.method in head.entries:
        costs["entries"] = _counted_once(head.entries[row.method])
    return replace(row, costs=costs)


def _counted_once(value: float) -> CostRange:
    return CostRange(value, value, value, 1)
