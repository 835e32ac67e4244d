"""The value of each metric for one record of the editing benchmark."""

from collections.abc import Callable, Iterable, Mapping

from roselora.bench.metrics.estimates import mean_share
from roselora.bench.records.edit_bench_records import EditRecord
from roselora.bench.tasks.edit_case import SAME_ANSWER

RecordValue = Callable[[EditRecord], float | None]


class EditValues:
    """Each record's value of each metric; None where it has none.

    A failed edit has no scores, but it counts as 0 in reliability, generalization and portability, because the model
    did not learn what it was given: a method gains nothing by failing on hard cases. Which questions its case asks is
    taken from the other methods' scores. There was no edited model to ask for locality, KL and fluency, so it has no
    value there.

    Attributes:
        by_metric: the function that gives a record's value, by metric.
    """

    def __init__(self, records: Iterable[EditRecord]) -> None:
        self._has_rephrasings: dict[str, bool] = {}
        self._portability_subtypes: dict[str, tuple[str, ...]] = {}
        for record in records:
            if record.scores is not None:
                self._has_rephrasings[record.case] = record.scores.generalization is not None
                self._portability_subtypes[record.case] = tuple(record.scores.portability)
        self.by_metric: Mapping[str, RecordValue] = {
            "reliability": reliability,
            "generalization": self._generalization,
            "portability": self._portability,
            "locality": _locality,
            "kl": lambda record: None if record.scores is None else record.scores.kl,
            "fluency": lambda record: None if record.scores is None else record.scores.fluency,
        }

    def portability_by_subtype(self, record: EditRecord) -> Mapping[str, float]:
        """The shares by sub-type; 0 for a failed edit in each sub-type that its case is known to have."""
        if record.scores is not None:
            return record.scores.portability
        return dict.fromkeys(self._portability_subtypes.get(record.case, ()), 0.0)

    def _generalization(self, record: EditRecord) -> float | None:
        """A case that no method has answered is taken to have rephrasings if any case of the run has."""
        if record.scores is not None:
            return record.scores.generalization
        return 0.0 if self._has_rephrasings.get(record.case, any(self._has_rephrasings.values())) else None

    def _portability(self, record: EditRecord) -> float | None:
        """As for generalization, a case that no method has answered is taken to ask what any case of the run asks."""
        if record.scores is None and record.case not in self._portability_subtypes:
            return 0.0 if any(self._portability_subtypes.values()) else None
        return mean_share(self.portability_by_subtype(record))


def reliability(record: EditRecord) -> float:
    """1 if the edit succeeded, else 0."""
    return 0.0 if record.scores is None else record.scores.reliability


def _locality(record: EditRecord) -> float | None:
    """Without the questions whose answer is the edited fact's own old one."""
    if record.scores is None:
        return None
    return mean_share({name: share for name, share in record.scores.locality.items() if name != SAME_ANSWER})
