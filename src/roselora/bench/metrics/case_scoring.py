"""Score the cases of the editing benchmark: what an edited model answers, against the targets and the base model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.metrics.case_questions import MetricName, Outcome
from roselora.bench.metrics.fluency import fluency
from roselora.bench.metrics.generated_answers import GeneratedQuestion, generated_questions
from roselora.bench.metrics.locality import Continuation, continuation_row, locality_prompts
from roselora.bench.metrics.question_forms import in_form, with_prompt
from roselora.bench.metrics.token_accuracy import ForcedAnswer, forced_answers
from roselora.bench.records.edit_bench_records import LOCALITY_TOKENS, FormName, FormScores, Scores, TokenAccuracy
from roselora.bench.tasks.edit_case import APART, RELATION_SPECIFICITY, SAME_ANSWER, EditCase
from roselora.errors import ConfigError, NonFiniteError
from roselora.models.generation import BATCH_SIZE, greedy_tokens, limited_answers
from roselora.models.teacher_forcing import NO_TOKEN, teacher_forced
from roselora.models.tokenization import encode


@dataclass(frozen=True)
class _Prepared:
    """A case's questions in one form; those that compare with the base model hold what it predicts."""

    case: EditCase
    form: FormName
    generated: list[GeneratedQuestion]
    forced: list[ForcedAnswer | Continuation]

    def behind(self, tokenizer: PreTrainedTokenizerBase, before: str) -> "_Prepared":
        """The same questions behind a text, with the same answers and continuations expected."""

        def text(prompt: str) -> str:
            return in_form(tokenizer, before + prompt, self.form)

        return replace(
            self,
            generated=[replace(question, text=text(question.prompt)) for question in self.generated],
            forced=[
                replace(question, row=with_prompt(question.row, encode(tokenizer, text(question.prompt))))
                for question in self.forced
            ],
        )


class CaseScores(NamedTuple):
    """A case's scores in each form; None in a form that is not asked."""

    bare: Scores | None
    chat: FormScores | None


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
    >>> scorer.score([case])[0].bare.reliability
    1.0

    Args:
        model: edited and restored by the caller between the calls.
        tokenizer: the model's.
        cases: to be prepared at once.
        forms: in which every question is asked. Token accuracy and fluency are measured in the bare form alone.
        fluency: whether to measure it, which takes 100 generated tokens a case.
        batch_size: rows in one forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        cases: Sequence[EditCase] = (),
        *,
        forms: Sequence[FormName] = ("bare",),
        fluency: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.model, self.tokenizer, self.forms = model, tokenizer, forms
        self.fluency, self.batch_size = fluency and "bare" in forms, batch_size
        self._prepared: dict[str, list[_Prepared]] = {}  # by key, one for each form
        self.prepare(cases)

    def prepare(self, cases: Sequence[EditCase]) -> None:
        """Record what the model, which must be unedited now, predicts for the cases that are not prepared yet.

        Raises:
            NonFiniteError: the unedited model gives NaN.
            ConfigError: two cases have one key, or a question has no tokens.
        """
        new = [_Prepared(case, form, [], []) for case in self._unknown(cases) for form in self.forms]
        asked = [(one, *question) for one in new for question in locality_prompts(one.case)]
        texts = [in_form(self.tokenizer, prompt, one.form) for one, _, prompt in asked]
        generated = greedy_tokens(
            self.model, self.tokenizer, texts, max_new_tokens=LOCALITY_TOKENS, batch_size=self.batch_size
        )
        for one in new:
            one.generated.extend(generated_questions(self.tokenizer, one.case, one.form))
            one.forced.extend(forced_answers(self.tokenizer, one.case) if one.form == "bare" else [])
        for (one, subtype, prompt), text, tokens in zip(asked, texts, generated, strict=True):
            one.forced.append(Continuation(subtype, prompt, *continuation_row(self.tokenizer, text, tokens)))
        self._compare_with_base(new)
        for one in new:
            self._prepared.setdefault(one.case.key, []).append(one)

    def forget(self, cases: Sequence[EditCase]) -> None:
        """Free what is kept of the base model for these cases."""
        for case in cases:
            self._prepared.pop(case.key, None)

    def score(self, cases: Sequence[EditCase], before: str = "") -> list[CaseScores]:
        """The scores of prepared cases on the model as it is now, in their order; all questions share their batches.

        Args:
            before: a text that is put before every question, in chat within the user's turn.

        Raises:
            ConfigError: a case is not prepared.
        """
        prepared = [one for case in cases for one in self._get(case)]
        if before:
            prepared = [one.behind(self.tokenizer, before) for one in prepared]
        answers, generated = self._generated_outcomes(prepared)
        forced = self._forced_outcomes(prepared)
        found = iter(zip(answers, generated, forced, strict=True))
        scores = []
        for varied in self._fluencies(cases, before):
            by_form = {form: next(found) for form in self.forms}
            bare = bare_scores(*by_form["bare"], varied) if "bare" in by_form else None
            scores.append(CaseScores(bare, form_scores(*by_form["chat"]) if "chat" in by_form else None))
        return scores

    def _fluencies(self, cases: Sequence[EditCase], before: str) -> Sequence[float | None]:
        if not self.fluency:
            return [None] * len(cases)
        prompts = [before + case.prompt for case in cases]
        return fluency(self.model, self.tokenizer, prompts, batch_size=self.batch_size)

    def _unknown(self, cases: Sequence[EditCase]) -> list[EditCase]:
        """The cases that are not prepared, each once."""
        new: dict[str, EditCase] = {}
        for case in cases:
            known = self._prepared[case.key][0].case if case.key in self._prepared else new.setdefault(case.key, case)
            if known != case:
                raise ConfigError(f"Two cases have the key {case.key!r}: give each its own.")
        return list(new.values())

    def _get(self, case: EditCase) -> list[_Prepared]:
        prepared = self._prepared.get(case.key)
        if prepared is None or prepared[0].case != case:
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
        """Of each, the answer to the edit's prompt, and the outcome of every question that generation answers."""
        questions = [question for one in prepared for question in one.generated]
        answers = limited_answers(
            self.model,
            self.tokenizer,
            [question.text for question in questions],
            [question.max_new_tokens for question in questions],
            batch_size=self.batch_size,
            stop_early=lambda index, new_tokens, text: questions[index].is_decided(new_tokens, text),
        )
        pairs = iter(zip(questions, answers, strict=True))
        by_case = [list(islice(pairs, len(one.generated))) for one in prepared]
        outcomes = [[question.outcome(answer) for question, answer in own] for own in by_case]
        return [own[0][1].text for own in by_case], outcomes

    def _forced_outcomes(self, prepared: Sequence[_Prepared]) -> list[list[Outcome]]:
        """Of each, the outcome of every question that is scored by teacher forcing."""
        questions = [question for one in prepared for question in one.forced]
        rows = [question.row for question in questions]
        found = {
            index: questions[index].outcome(predicted)
            for index, predicted in teacher_forced(self.model, rows, batch_size=self.batch_size)
        }
        outcomes = (found[index] for index in range(len(questions)))
        return [list(islice(outcomes, len(one.forced))) for one in prepared]


def bare_scores(answer: str, generated: Sequence[Outcome], forced: Sequence[Outcome], fluency: float | None) -> Scores:
    """:func:`form_scores` with fluency as measured, or None, and EasyEdit's scores: those of outcomes without KL."""
    easyedit = [outcome for outcome in forced if outcome.kl is None]
    return Scores(
        **vars(form_scores(answer, generated, forced)),
        fluency=fluency,
        token_accuracy=TokenAccuracy(
            reliability=_means(easyedit, "reliability").get("", 0.0),
            generalization=_means(easyedit, "generalization").get(""),
            portability=_means(easyedit, "portability"),
            locality=_means(map(_as_published, easyedit), "locality"),
        ),
    )


def form_scores(answer: str, generated: Sequence[Outcome], forced: Sequence[Outcome]) -> FormScores:
    """The means over a case's questions, by sub-type.

    Args:
        answer: what the model answers to the edit's prompt.
        generated: the outcomes of the generated answers.
        forced: the outcomes of the base model's continuations, with KL; those without are not looked at.
    """
    continued = [outcome for outcome in forced if outcome.kl is not None]
    divergences = [(outcome.subtype, outcome.kl) for outcome in continued if outcome.kl is not None]
    counted = [kl for subtype, kl in divergences if subtype not in APART]
    return FormScores(
        answer=answer,
        reliability=_means(generated, "reliability")[""],
        generalization=_means(generated, "generalization").get(""),
        portability=_means(generated, "portability"),
        locality=_means(continued, "locality"),
        kl=sum(counted) / len(counted) if counted else None,
        kl_by=_grouped_means(divergences),
        behind_sentence=_means(generated, "behind_sentence").get(""),
    )


def _as_published(outcome: Outcome) -> Outcome:
    """EasyEdit has no sub-type `SAME_ANSWER`: in its files these questions are under Relation_Specificity."""
    return replace(outcome, subtype=RELATION_SPECIFICITY) if outcome.subtype == SAME_ANSWER else outcome


def _means(outcomes: Iterable[Outcome], metric: MetricName) -> dict[str, float]:
    """The mean score of each sub-type of a metric."""
    return _grouped_means((outcome.subtype, outcome.score) for outcome in outcomes if outcome.metric == metric)


def _grouped_means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean of the values of each name."""
    groups: dict[str, list[float]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in groups.items()}
