"""From the outcome of every question of a case to the case's scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from roselora.bench.metrics.case_questions import FreeQuestion, LedQuestion, Word
from roselora.bench.metrics.divergence import kl_divergence
from roselora.bench.metrics.token_accuracy import share_equal
from roselora.bench.records.edit_bench_records import Scores, TokenAccuracy
from roselora.bench.tasks.edit_case import SAME_ANSWER
from roselora.editing.answer_match import matches
from roselora.models.generation import Answer
from roselora.models.teacher_forcing import Forced


@dataclass(frozen=True)
class Outcome:
    """One question's score, from 0 to 1, and for the continuation of one that must not move, KL(base || edited)."""

    word: Word
    subtype: str
    score: float
    kl: float | None = None


def free_outcome(question: FreeQuestion, answer: Answer) -> Outcome:
    """1 if the answer came to an end by itself and equals a target after normalization, else 0."""
    return Outcome(question.word, question.subtype, float(answer.ended and matches(answer.text, question.targets)))


def led_outcome(question: LedQuestion, forced: Forced) -> Outcome:
    """EasyEdit's share of tokens; or of a continuation, 1 if all its tokens are the base's, else 0."""
    if question.base is None:
        return Outcome(question.word, question.subtype, share_equal(forced.tokens, question.expected))
    kl = kl_divergence(question.base[None], forced.log_probabilities()[None])
    return Outcome(question.word, question.subtype, float(forced.tokens == question.expected), float(kl))


def scores(answer: str, free: Sequence[Outcome], led: Sequence[Outcome], fluency: float | None) -> Scores:
    """The means over a case's questions, by sub-type.

    Args:
        answer: what the model says to the edit's prompt.
        free: the outcomes of what it says by itself.
        led: those of what it predicts along EasyEdit's answers, without KL, and along the base's continuations, with.
        fluency: as measured, or None.
    """
    easyedit = [outcome for outcome in led if outcome.kl is None]
    continued = [outcome for outcome in led if outcome.kl is not None]
    divergences = [o.kl for o in continued if o.kl is not None and o.subtype != SAME_ANSWER]
    return Scores(
        answer=answer,
        reliability=_by_subtype(free, "reliability")[""],
        generalization=_by_subtype(free, "generalization").get(""),
        portability=_by_subtype(free, "portability"),
        locality=_by_subtype(continued, "locality"),
        kl=sum(divergences) / len(divergences) if divergences else None,
        fluency=fluency,
        token_accuracy=TokenAccuracy(
            reliability=_by_subtype(easyedit, "reliability").get("", 0.0),
            generalization=_by_subtype(easyedit, "generalization").get(""),
            portability=_by_subtype(easyedit, "portability"),
            locality=_by_subtype(map(_as_published, easyedit), "locality"),
        ),
    )


def _as_published(outcome: Outcome) -> Outcome:
    """EasyEdit knows no sub-type `SAME_ANSWER`: those questions stand under Relation_Specificity in its files."""
    return replace(outcome, subtype="Relation_Specificity") if outcome.subtype == SAME_ANSWER else outcome


def _by_subtype(outcomes: Iterable[Outcome], word: Word) -> dict[str, float]:
    """The mean over the items of each sub-type that has any."""
    groups: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.word == word:
            groups.setdefault(outcome.subtype, []).append(outcome.score)
    return {subtype: sum(values) / len(values) for subtype, values in groups.items()}
