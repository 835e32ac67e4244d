"""The questions that a case asks, and the score of one of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from roselora.bench.tasks.edit_case import EditCase

MetricName = Literal["reliability", "behind_sentence", "generalization", "portability", "locality"]


class CaseQuestion(NamedTuple):
    """A question, what it tests, and the answers that a record names."""

    metric: MetricName
    subtype: str
    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """The score of one question, from 0 to 1; for a locality question's continuation also KL(base || edited)."""

    metric: MetricName
    subtype: str
    score: float
    kl: float | None = None


def judging_prompts(case: EditCase) -> list[str]:
    """The prompts of all that judges an edit of the case, but its own; no edit may be made with them."""
    return [question.prompt for question in case_questions(case) if question.metric != "reliability"]


def case_questions(case: EditCase) -> Iterator[CaseQuestion]:
    """The case's prompt, also behind a sentence, its rephrasings, its portability and its locality questions.

    All but the last two kinds have the sub-type "".

    >>> case = EditCase("made/0", "Oslo is in", "Peru", rephrasings=("Where is Oslo?",))
    >>> [question.metric for question in case_questions(case)]
    ['reliability', 'generalization']
    """
    yield CaseQuestion("reliability", "", case.prompt, (case.target,))
    if case.behind_sentence is not None:
        yield CaseQuestion("behind_sentence", "", case.behind_sentence, (case.target,))
    for prompt in case.rephrasings:
        yield CaseQuestion("generalization", "", prompt, (case.target,))
    for subtype, probes in case.portability.items():
        for probe in probes:
            yield CaseQuestion("portability", subtype, probe.prompt, probe.answers)
    for subtype, probes in case.locality.items():
        for probe in probes:
            yield CaseQuestion("locality", subtype, probe.prompt, probe.answers)
