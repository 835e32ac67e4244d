"""The value of each metric for one record of the editing benchmark."""

from collections.abc import Callable, Iterable, Mapping

from roselora.bench.metrics.estimates import mean_share
from roselora.bench.records.edit_bench_records import EditRecord, FormName, FormScores
from roselora.bench.tasks.edit_case import APART, NEAREST, RELATION_SPECIFICITY, SAME_SUBJECT

RecordValue = Callable[[EditRecord], float | None]

NOT_SHARES = frozenset({"kl", "nearest_kl"})
"""The metrics whose values are not shares of questions."""


class EditValues:
    """Each record's value of each metric in one form; None where it has none.

    A failed edit has no scores, but it counts as 0 in reliability, behind a sentence, generalization and portability,
    because the model did not learn what it was given: a method gains nothing by failing on hard cases. Which questions
    its case asks is taken from the other methods' scores. There was no edited model to ask for the rest, so it has no
    value there.

    Args:
        form: in which the questions were asked.

    Attributes:
        by_metric: the function that gives a record's value, by metric.
    """

    def __init__(self, records: Iterable[EditRecord], form: FormName = "bare") -> None:
        self._form: FormName = form
        self._known: dict[str, FormScores] = {}
        for record in records:
            if (scores := record.in_form(form)) is not None:
                self._known[record.case] = scores
        self.by_metric: Mapping[str, RecordValue] = {
            "reliability": lambda record: reliability(record, form),
            "behind_sentence": self._learnt(lambda scores: scores.behind_sentence),
            "generalization": self._learnt(lambda scores: scores.generalization),
            "portability": self._learnt(lambda scores: mean_share(scores.portability)),
            "locality": self._kept(_locality),
            "nearest": self._kept(lambda scores: scores.locality.get(NEAREST)),
            "same_subject": self._kept(_same_subject),
            "kl": self._kept(lambda scores: scores.kl),
            "nearest_kl": self._kept(lambda scores: scores.kl_by.get(NEAREST)),
        }

    def portability_by_subtype(self, record: EditRecord) -> Mapping[str, float]:
        """The shares by sub-type; 0 for a failed edit in each sub-type that its case is known to have."""
        if record.error is None:
            scores = record.in_form(self._form)
            return {} if scores is None else scores.portability
        return dict.fromkeys(self._known[record.case].portability, 0.0) if record.case in self._known else {}

    def _learnt(self, value: Callable[[FormScores], float | None]) -> RecordValue:
        """A value that is 0 for a failed edit whose case asks for it.

        A case that no method has answered is taken to ask what any case of the run asks.
        """
        asked = {case: value(scores) is not None for case, scores in self._known.items()}
        asked_of_others = any(asked.values())

        def of_record(record: EditRecord) -> float | None:
            if record.error is not None:
                return 0.0 if asked.get(record.case, asked_of_others) else None
            scores = record.in_form(self._form)
            return None if scores is None else value(scores)

        return of_record

    def _kept(self, value: Callable[[FormScores], float | None]) -> RecordValue:
        """A value that a failed edit does not have."""

        def of_record(record: EditRecord) -> float | None:
            scores = record.in_form(self._form)
            return None if scores is None else value(scores)

        return of_record


def reliability(record: EditRecord, form: FormName) -> float | None:
    """1 if the edit succeeded, else 0; None in a form that was not asked."""
    if record.error is not None:
        return 0.0
    scores = record.in_form(form)
    return None if scores is None else scores.reliability


def _locality(scores: FormScores) -> float | None:
    return mean_share({name: share for name, share in scores.locality.items() if name not in APART})


def _same_subject(scores: FormScores) -> float | None:
    """The record's own questions about other relations of the subject, or ours where it has none."""
    return scores.locality.get(RELATION_SPECIFICITY, scores.locality.get(SAME_SUBJECT))
