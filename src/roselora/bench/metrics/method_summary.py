"""The rows of the editing report: for each method rates, means and costs, each with its n and 95% interval."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from roselora.bench.metrics.edit_values import NOT_SHARES, EditValues
from roselora.bench.metrics.estimates import BOOTSTRAP_SEED, CostRange, Estimate, cost_range, estimate, mean_share
from roselora.bench.records.edit_bench_records import Cost, EditRecord, FormName, TokenAccuracy

V = TypeVar("V")


@dataclass(frozen=True)
class FormSummary:
    """What a method's edits reach in one form; what has no values is left out.

    Attributes:
        means: by the metrics of `EditValues`; KL is in nats, the others are shares.
        portability_by, locality_by: the same, by sub-type; locality's mean itself leaves `APART` out.
    """

    means: Mapping[str, Estimate]
    portability_by: Mapping[str, Estimate]
    locality_by: Mapping[str, Estimate]


@dataclass(frozen=True)
class MethodSummary:
    """One row of the report; None where there are no values.

    Attributes:
        method: its name.
        edits: how many edits were tried; ``failed``: how many ended in an error; ``failure``: the most frequent error,
            and ``failure_count``: how many ended in it.
        forms: what is measured in each form.
        fluency: as in ROME.
        token_accuracy: EasyEdit's teacher-forced scores by name, of the edits that did not fail.
        costs: by the fields of :class:`Cost`; ``first_seconds`` and ``later_seconds`` are those of the edit that was
            made first and of all others.
    """

    method: str
    edits: int
    failed: int
    failure: str | None
    failure_count: int
    forms: Mapping[FormName, FormSummary]
    fluency: Estimate | None
    token_accuracy: Mapping[str, Estimate]
    costs: Mapping[str, CostRange]


def summarize(
    records: Sequence[EditRecord],
    methods: Iterable[str] = (),
    *,
    forms: Sequence[FormName] = ("bare",),
    seed: int = BOOTSTRAP_SEED,
) -> list[MethodSummary]:
    """One row for each of the ``methods``, in their order, then for each other one that has records.

    `EditValues` defines what a failed edit counts; where it has no value, the n leaves it out.

    Args:
        forms: those to summarize.
        seed: of the bootstrap.
    """
    values = {form: EditValues(records, form) for form in forms}
    names = dict.fromkeys([*methods, *(record.method for record in records)])
    return [_summary(name, [record for record in records if record.method == name], values, seed) for name in names]


def _summary(
    method: str, records: Sequence[EditRecord], values: Mapping[FormName, EditValues], seed: int
) -> MethodSummary:
    scores = [record.scores for record in records if record.scores is not None]
    failures = Counter(record.error for record in records if record.error is not None)
    failure, failure_count = failures.most_common(1)[0] if failures else (None, 0)
    costs = [record.cost for record in records if record.cost is not None]
    taken = {field.name: [getattr(cost, field.name) for cost in costs] for field in fields(Cost)}
    taken |= {"first_seconds": taken["seconds"][:1], "later_seconds": taken["seconds"][1:]}
    return MethodSummary(
        method=method,
        edits=len(records),
        failed=failures.total(),
        failure=failure,
        failure_count=failure_count,
        forms={form: _form_summary(form, records, own, seed) for form, own in values.items()},
        fluency=estimate((score.fluency for score in scores), share=False, seed=seed),
        token_accuracy=_by_subtype((_token_accuracy(score.token_accuracy) for score in scores), seed),
        costs=_present({name: cost_range(each) for name, each in taken.items()}),
    )


def _form_summary(form: FormName, records: Sequence[EditRecord], values: EditValues, seed: int) -> FormSummary:
    scores = [found for record in records if (found := record.in_form(form)) is not None]
    return FormSummary(
        means=_present(
            {
                metric: estimate(map(value, records), share=metric not in NOT_SHARES, seed=seed)
                for metric, value in values.by_metric.items()
            }
        ),
        portability_by=_by_subtype(map(values.portability_by_subtype, records), seed),
        locality_by=_by_subtype((score.locality for score in scores), seed),
    )


def _by_subtype(cases: Iterable[Mapping[str, float | None]], seed: int) -> dict[str, Estimate]:
    """The mean of each name's values over the cases that have one."""
    shares = list(cases)
    names = dict.fromkeys(name for own in shares for name in own)
    return _present({name: estimate((own.get(name) for own in shares), share=True, seed=seed) for name in names})


def _token_accuracy(scores: TokenAccuracy) -> dict[str, float | None]:
    return {
        "reliability": scores.reliability,
        "generalization": scores.generalization,
        "portability": mean_share(scores.portability),
        "locality": mean_share(scores.locality),
    }


def _present(found: Mapping[str, V | None]) -> dict[str, V]:
    return {name: value for name, value in found.items() if value is not None}
