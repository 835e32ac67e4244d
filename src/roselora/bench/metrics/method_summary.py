"""What the records of a method come to: rates, means and costs, each with its n and its 95% interval."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from roselora.bench.metrics.estimates import BOOTSTRAP_SEED, CostRange, Estimate, cost_range, estimate, mean_share
from roselora.bench.records.edit_bench_records import Cost, EditRecord, TokenAccuracy
from roselora.bench.tasks.edit_case import SAME_ANSWER


@dataclass(frozen=True)
class MethodSummary:
    """One row of the report. None: there is nothing that it could be the mean of.

    Attributes:
        method: its name.
        edits: the edits that were tried; ``failed``: those that ended in an error; ``failure``: the error that most
            of them ended in, and ``failure_count``: how many did.
        reliability, generalization, portability, locality: means of the cases' shares (:class:`Scores`).
        portability_by, locality_by: the same, by sub-type. ``locality`` itself leaves `SAME_ANSWER` out.
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
    costs: Mapping[str, CostRange]


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


def unrelated(locality: Mapping[str, float]) -> dict[str, float]:
    """The sub-types of locality but for the questions whose answer is the edited fact's own old one."""
    return {name: share for name, share in locality.items() if name != SAME_ANSWER}


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
    elsewhere = (unrelated(score.locality) for score in scores)
    return MethodSummary(
        method=method,
        edits=len(records),
        failed=failures.total(),
        failure=failure,
        failure_count=failure_count,
        reliability=estimate(map(reliability, records), share=True, seed=seed),
        generalization=estimate(map(questions.generalization, records), share=True, seed=seed),
        portability=estimate(map(questions.mean_portability, records), share=True, seed=seed),
        portability_by=_by_type(portability, seed),
        locality=estimate(map(mean_share, elsewhere), share=True, seed=seed),
        locality_by=_by_type(locality, seed),
        kl=estimate((score.kl for score in scores), share=False, seed=seed),
        fluency=estimate((score.fluency for score in scores), share=False, seed=seed),
        token_accuracy=_token_accuracy([score.token_accuracy for score in scores], seed),
        costs=_costs([record.cost for record in records if record.cost is not None]),
    )


def _by_type(cases: Sequence[Mapping[str, float]], seed: int) -> dict[str, Estimate]:
    names = dict.fromkeys(name for shares in cases for name in shares)
    return _present({name: estimate((shares.get(name) for shares in cases), share=True, seed=seed) for name in names})


def _token_accuracy(scores: Sequence[TokenAccuracy], seed: int) -> dict[str, Estimate]:
    columns: dict[str, list[float | None]] = {
        "reliability": [score.reliability for score in scores],
        "generalization": [score.generalization for score in scores],
        "portability": [mean_share(score.portability) for score in scores],
        "locality": [mean_share(score.locality) for score in scores],
    }
    return _present({name: estimate(column, share=True, seed=seed) for name, column in columns.items()})


def _costs(costs: Sequence[Cost]) -> dict[str, CostRange]:
    columns = {field.name: [getattr(cost, field.name) for cost in costs] for field in fields(Cost)}
    found = {name: cost_range([value for value in column if value is not None]) for name, column in columns.items()}
    return {name: value for name, value in found.items() if value is not None}


def _present(estimates: Mapping[str, Estimate | None]) -> dict[str, Estimate]:
    return {name: value for name, value in estimates.items() if value is not None}
