"""What the records of a method come to: rates, means and costs, each with its n and its 95% interval."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from roselora.evaluation.intervals import bootstrap_interval, wilson_interval
from roselora.evaluation.records import Cost, EditRecord, TokenAccuracy

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean over cases, with its 95% interval.

    Attributes:
        value: the mean; it is inf or NaN if one of its values is.
        low, high: the interval, or None where values are not finite, so that there is none.
        n: the cases that it is the mean of.
        interval: how the interval was made.
        non_finite: how many of the n values are inf or NaN.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    interval: Literal["wilson", "bootstrap"]
    non_finite: int = 0


@dataclass(frozen=True)
class Spread:
    """The median of a cost over n edits, and the least and the most that one took."""

    median: float
    least: float
    most: float
    n: int


@dataclass(frozen=True)
class MethodSummary:
    """One row of the report. None: there is nothing that it could be the mean of.

    Attributes:
        method: its name.
        edits: the edits that were tried; ``failed``: those that ended in an error; ``failure``: the error that most
            of them ended in, and ``failure_count``: how many did.
        reliability, generalization, portability, locality: means of the cases' shares (:class:`Scores`).
        portability_by, locality_by: the same, by sub-type.
        kl: nats; ``fluency``: as in ROME.
        token_accuracy: EasyEdit's teacher-forced scores by name, of the edits that did not fail.
        costs: by the fields of :class:`Cost`.
    """

    method: str
    edits: int
    failed: int
    failure: str | None
    failure_count: int
    reliability: Estimate | None
    generalization: Estimate | None
    portability: Estimate | None
    portability_by: Mapping[str, Estimate]
    locality: Estimate | None
    locality_by: Mapping[str, Estimate]
    kl: Estimate | None
    fluency: Estimate | None
    token_accuracy: Mapping[str, Estimate]
    costs: Mapping[str, Spread]


def estimate(values: Iterable[float | None], *, seed: int = BOOTSTRAP_SEED) -> Estimate | None:
    """The mean of the values that are there, or None if none is.

    Wilson's interval where every value is 0 or 1, else the percentile bootstrap's over the values. (Where all are 1,
    a bootstrap would give an interval of no width.)
    """
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    mean = sum(numbers) / len(numbers)
    if unbounded := sum(not math.isfinite(value) for value in numbers):
        return Estimate(mean, None, None, len(numbers), "bootstrap", unbounded)
    if set(numbers) <= {0.0, 1.0}:
        return Estimate(mean, *wilson_interval(round(sum(numbers)), len(numbers)), len(numbers), "wilson")
    return Estimate(mean, *bootstrap_interval(numbers, seed=seed), len(numbers), "bootstrap")


def spread(values: Sequence[float]) -> Spread | None:
    """Median and range, or None if there are no values."""
    return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None


def mean_share(shares: Mapping[str, float]) -> float | None:
    """One case's share over its sub-types, each of which counts alike (EasyEdit's order of averaging)."""
    return sum(shares.values()) / len(shares) if shares else None


class Questions:
    """What each case asks, as far as any method's scores show it.

    A failed edit has no scores, yet its questions must count: a method shall gain nothing by failing where it is hard.
    """

    def __init__(self, records: Iterable[EditRecord]) -> None:
        self._rephrased: dict[str, bool] = {}
        self._portability: dict[str, tuple[str, ...]] = {}
        for record in records:
            if record.scores is not None:
                self._rephrased[record.case] = record.scores.generalization is not None
                self._portability[record.case] = tuple(record.scores.portability)

    def generalization(self, record: EditRecord) -> float | None:
        """The share of rephrasings; 0 for a failed edit, unless its case is known to have none.

        A case that no method has answered is taken to have some if any case of the run has.
        """
        if record.scores is not None:
            return record.scores.generalization
        return 0.0 if self._rephrased.get(record.case, any(self._rephrased.values())) else None

    def portability(self, record: EditRecord) -> Mapping[str, float]:
        """The shares by sub-type; 0 for a failed edit in each that its case is known to have."""
        if record.scores is not None:
            return record.scores.portability
        return dict.fromkeys(self._portability.get(record.case, ()), 0.0)

    def mean_portability(self, record: EditRecord) -> float | None:
        """The share over all sub-types, with unanswered cases as for generalization."""
        if record.scores is None and record.case not in self._portability:
            return 0.0 if any(self._portability.values()) else None
        return mean_share(self.portability(record))


def reliability(record: EditRecord) -> float:
    """1 if the edit took, and 0 if not, be it that it failed."""
    return 0.0 if record.scores is None else record.scores.reliability


def summarize(
    records: Sequence[EditRecord], methods: Iterable[str] = (), *, seed: int = BOOTSTRAP_SEED
) -> list[MethodSummary]:
    """One summary for each of the ``methods``, in their order, then for each other one that has records.

    A failed edit counts as 0 in reliability, generalization and portability, for the model did not learn what it was
    told. It is left out of locality, KL, fluency and token accuracy, whose n say so: there was no edited model to ask.

    Args:
        seed: of the bootstrap.
    """
    questions = Questions(records)
    names = dict.fromkeys([*methods, *(record.method for record in records)])
    return [_summary(name, [record for record in records if record.method == name], questions, seed) for name in names]


def _summary(method: str, records: Sequence[EditRecord], questions: Questions, seed: int) -> MethodSummary:
    scores = [record.scores for record in records if record.scores is not None]
    failures = Counter(record.error for record in records if record.error is not None)
    failure, failure_count = failures.most_common(1)[0] if failures else (None, 0)
    portability = [questions.portability(record) for record in records]
    locality = [score.locality for score in scores]
    return MethodSummary(
        method=method,
        edits=len(records),
        failed=failures.total(),
        failure=failure,
        failure_count=failure_count,
        reliability=estimate(map(reliability, records), seed=seed),
        generalization=estimate(map(questions.generalization, records), seed=seed),
        portability=estimate(map(questions.mean_portability, records), seed=seed),
        portability_by=_by_type(portability, seed),
        locality=estimate(map(mean_share, locality), seed=seed),
        locality_by=_by_type(locality, seed),
        kl=estimate((score.kl for score in scores), seed=seed),
        fluency=estimate((score.fluency for score in scores), seed=seed),
        token_accuracy=_token_accuracy([score.token_accuracy for score in scores], seed),
        costs=_costs([record.cost for record in records if record.cost is not None]),
    )


def _by_type(cases: Sequence[Mapping[str, float]], seed: int) -> dict[str, Estimate]:
    names = dict.fromkeys(name for shares in cases for name in shares)
    return _present({name: estimate((shares.get(name) for shares in cases), seed=seed) for name in names})


def _token_accuracy(scores: Sequence[TokenAccuracy], seed: int) -> dict[str, Estimate]:
    columns: dict[str, list[float | None]] = {
        "reliability": [score.reliability for score in scores],
        "generalization": [score.generalization for score in scores],
        "portability": [mean_share(score.portability) for score in scores],
        "locality": [mean_share(score.locality) for score in scores],
    }
    return _present({name: estimate(column, seed=seed) for name, column in columns.items()})


def _costs(costs: Sequence[Cost]) -> dict[str, Spread]:
    found = {field.name: spread([getattr(cost, field.name) for cost in costs]) for field in fields(Cost)}
    return {name: value for name, value in found.items() if value is not None}


def _present(estimates: Mapping[str, Estimate | None]) -> dict[str, Estimate]:
    return {name: value for name, value in estimates.items() if value is not None}
