"""Score the cases of the editing benchmark: what an edited model answers, against the targets and the base model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.metrics.case_questions import MetricName, Outcome
from roselora.bench.metrics.fluency import fluency
from roselora.bench.metrics.generated_answers import GeneratedQuestion, generated_questions
from roselora.bench.metrics.locality import Continuation, continuation_row, locality_prompts
from roselora.bench.metrics.token_accuracy import ForcedAnswer, forced_answers
from roselora.bench.records.edit_bench_records import LOCALITY_TOKENS, Scores, TokenAccuracy
from roselora.bench.tasks.edit_case import SAME_ANSWER, EditCase
from roselora.errors import ConfigError, NonFiniteError
from roselora.models.generation import BATCH_SIZE, greedy_tokens, limited_answers
from roselora.models.teacher_forcing import NO_TOKEN, teacher_forced


@dataclass(frozen=True)
class _Prepared:
    """A case's questions; those that compare with the base model hold what it predicts."""

    case: EditCase
    generated: list[GeneratedQuestion]
    forced: list[ForcedAnswer | Continuation]


class CaseScorer:
    """Scores cases on a model as it is now, against the model as it was when the cases were prepared.

    Cases are prepared while the model is unedited: by the constructor, or later by :meth:`prepare`, after every edit
    has been undone. For each locality question, the 16 tokens of the base model and the log-probabilities of its next
    token are kept: 4 bytes for each entry of the vocabulary, so 0.2 MB at 49,152 entries and 0.2 GB for 1000 questions.

    An edited model whose logits hold NaN gets no point where they do: its answers end there and count as wrong, its
    continuations count as moved, the KL divergence is infinite, and the text for fluency ends there.

    >>> from roselora.models.loading import load
    >>> loaded = load("model")  # a model that knows this fact
    >>> case = EditCase("made/0", "The capital of France is", "Paris")
    >>> scorer = CaseScorer(loaded.model, loaded.tokenizer, [case])
    >>> scorer.score([case])[0].reliability
    1.0

    Args:
        model: edited and restored by the caller between the calls.
        tokenizer: the model's.
        cases: to be prepared at once.
        fluency: whether to measure it, which takes 100 generated tokens a case.
        batch_size: rows in one forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        cases: Sequence[EditCase] = (),
        *,
        fluency: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.fluency, self.batch_size = fluency, batch_size
        self._prepared: dict[str, _Prepared] = {}
        self.prepare(cases)

    def prepare(self, cases: Sequence[EditCase]) -> None:
        """Record what the model, which must be unedited now, predicts for the cases that are not prepared yet.

        Raises:
            NonFiniteError: the unedited model gives NaN.
            ConfigError: two cases have one key, or a question has no tokens.
        """
        new = self._unknown(cases)
        prompts = [prompt for case in new for _, prompt in locality_prompts(case)]
        generated = iter(
            greedy_tokens(
                self.model, self.tokenizer, prompts, max_new_tokens=LOCALITY_TOKENS, batch_size=self.batch_size
            )
        )
        prepared = []
        for case in new:
            continuations = [
                Continuation(subtype, *continuation_row(self.tokenizer, prompt, next(generated)))
                for subtype, prompt in locality_prompts(case)
            ]
            answers = forced_answers(self.tokenizer, case)
            prepared.append(_Prepared(case, generated_questions(self.tokenizer, case), [*answers, *continuations]))
        self._compare_with_base(prepared)
        self._prepared |= {one.case.key: one for one in prepared}

    def forget(self, cases: Sequence[EditCase]) -> None:
        """Free what is kept of the base model for these cases."""
        for case in cases:
            self._prepared.pop(case.key, None)

    def score(self, cases: Sequence[EditCase]) -> list[Scores]:
        """The scores of prepared cases on the model as it is now, in their order; all cases share their batches.

        Raises:
            ConfigError: a case is not prepared.
        """
        prepared = [self._get(case) for case in cases]
        answers, generated = self._generated_outcomes(prepared)
        forced = self._forced_outcomes(prepared)
        fluencies: Sequence[float | None] = [None] * len(prepared)
        if self.fluency:
            prompts = [case.prompt for case in cases]
            fluencies = fluency(self.model, self.tokenizer, prompts, batch_size=self.batch_size)
        return [case_scores(*parts) for parts in zip(answers, generated, forced, fluencies, strict=True)]

    def _unknown(self, cases: Sequence[EditCase]) -> list[EditCase]:
        """The cases that are not prepared, each once."""
        new: dict[str, EditCase] = {}
        for case in cases:
            known = self._prepared[case.key].case if case.key in self._prepared else new.setdefault(case.key, case)
            if known != case:
                raise ConfigError(f"Two cases have the key {case.key!r}: give each its own.")
        return list(new.values())

    def _get(self, case: EditCase) -> _Prepared:
        prepared = self._prepared.get(case.key)
        if prepared is None or prepared.case != case:
            raise ConfigError(f"The case {case.key!r} is not prepared: prepare it while the model is unedited.")
        return prepared

    def _compare_with_base(self, prepared: Sequence[_Prepared]) -> None:
        """Replace every forced question by one that holds the base model's predictions.

        A continuation's tokens too are taken from this pass, whose rounding is that of the pass that will score it.
        """
        places = [(one.forced, position) for one in prepared for position in range(len(one.forced))]
        rows = [questions[position].row for questions, position in places]
        for index, predicted in teacher_forced(self.model, rows, batch_size=self.batch_size):
            if NO_TOKEN in predicted.tokens:
                raise NonFiniteError("The unedited model gives NaN, so nothing can be compared with it.")
            questions, position = places[index]
            questions[position] = questions[position].compared_with_base(predicted)

    def _generated_outcomes(self, prepared: Sequence[_Prepared]) -> tuple[list[str], list[list[Outcome]]]:
        """For each case, the answer to its prompt, and the outcome of every question that is answered by generation."""
        questions = [question for one in prepared for question in one.generated]
        answers = limited_answers(
            self.model,
            self.tokenizer,
            [question.prompt for question in questions],
            [question.max_new_tokens for question in questions],
            batch_size=self.batch_size,
            stop_early=lambda index, new_tokens, text: questions[index].is_decided(new_tokens, text),
        )
        pairs = iter(zip(questions, answers, strict=True))
        by_case = [list(islice(pairs, len(one.generated))) for one in prepared]
        outcomes = [[question.outcome(answer) for question, answer in own] for own in by_case]
        return [own[0][1].text for own in by_case], outcomes

    def _forced_outcomes(self, prepared: Sequence[_Prepared]) -> list[list[Outcome]]:
        """For each case, the outcome of every question that is scored by teacher forcing."""
        questions = [question for one in prepared for question in one.forced]
        rows = [question.row for question in questions]
        found = {
            index: questions[index].outcome(predicted)
            for index, predicted in teacher_forced(self.model, rows, batch_size=self.batch_size)
        }
        outcomes = (found[index] for index in range(len(questions)))
        return [list(islice(outcomes, len(one.forced))) for one in prepared]


def case_scores(answer: str, generated: Sequence[Outcome], forced: Sequence[Outcome], fluency: float | None) -> Scores:
    """The means over a case's questions, by sub-type.

    Args:
        answer: what the model answers to the edit's prompt.
        generated: the outcomes of the generated answers.
        forced: the outcomes of EasyEdit's answers, without KL, and of the base model's continuations, with KL.
        fluency: as measured, or None.
    """
    easyedit = [outcome for outcome in forced if outcome.kl is None]
    continued = [outcome for outcome in forced if outcome.kl is not None]
    divergences = [o.kl for o in continued if o.kl is not None and o.subtype != SAME_ANSWER]
    return Scores(
        answer=answer,
        reliability=_means(generated, "reliability")[""],
        generalization=_means(generated, "generalization").get(""),
        portability=_means(generated, "portability"),
        locality=_means(continued, "locality"),
        kl=sum(divergences) / len(divergences) if divergences else None,
        fluency=fluency,
        token_accuracy=TokenAccuracy(
            reliability=_means(easyedit, "reliability").get("", 0.0),
            generalization=_means(easyedit, "generalization").get(""),
            portability=_means(easyedit, "portability"),
            locality=_means(map(_as_published, easyedit), "locality"),
        ),
    )


def _as_published(outcome: Outcome) -> Outcome:
    """EasyEdit has no sub-type `SAME_ANSWER`: in its files these questions are under Relation_Specificity."""
    return replace(outcome, subtype="Relation_Specificity") if outcome.subtype == SAME_ANSWER else outcome


def _means(outcomes: Iterable[Outcome], metric: MetricName) -> dict[str, float]:
    """The mean score of each sub-type of a metric."""
    groups: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.metric == metric:
            groups.setdefault(outcome.subtype, []).append(outcome.score)
    return {subtype: sum(scores) / len(scores) for subtype, scores in groups.items()}
