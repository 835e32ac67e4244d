"""Reliability, generalization and portability: whether the answer that a model generates equals a target."""

from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from roselora.bench.metrics.case_questions import MetricName, Outcome, case_questions
from roselora.bench.metrics.question_forms import in_form
from roselora.bench.records.edit_bench_records import FormName
from roselora.bench.tasks.edit_case import EditCase
from roselora.editing.answer_match import matches
from roselora.editing.early_stopping import AnswerPrefixes
from roselora.editing.methods.token_batches import split_at_answer
from roselora.models.generation import GeneratedAnswer

SHOWN_TOKENS = 8
"""At least this much of every answer is generated, so that a record shows what the model answers."""

AROUND_TOKENS = 4
"""The room around a right answer: an article, quotes, a full stop, and the EOS or newline that ends it."""


@dataclass(frozen=True)
class GeneratedQuestion:
    """A question that the model answers by greedy generation.

    Attributes:
        metric, subtype: what it tests.
        prompt: the question; ``text``: what the model reads, in the form in which it is asked.
        targets: the answers that count; at least one, none of them blank.
        max_new_tokens: an answer that is longer equals none of the targets.
        prefixes: of the answers that count.
    """

    metric: MetricName
    subtype: str
    prompt: str
    text: str
    targets: tuple[str, ...]
    max_new_tokens: int
    prefixes: AnswerPrefixes = field(compare=False)

    def is_decided(self, new_tokens: int, generated: str) -> bool:
        """Whether generation can stop: enough is shown, and the answer can no longer become a target."""
        return new_tokens >= SHOWN_TOKENS and not self.prefixes.can_match(generated)

    def outcome(self, answer: GeneratedAnswer) -> Outcome:
        """1 if the answer ended by itself and equals a target after normalization, else 0."""
        return Outcome(self.metric, self.subtype, float(answer.ended and matches(answer.text, self.targets)))


def generated_questions(
    tokenizer: PreTrainedTokenizerBase, case: EditCase, form: FormName = "bare"
) -> list[GeneratedQuestion]:
    """The case's questions but those of locality, in one form; those without an answer are left out.

    If a record asks the same question several times with different right answers (such as the official languages of a
    country), it is asked once, and any of them counts: no model could give them all at once.
    """
    answers: dict[tuple[MetricName, str, str], tuple[str, ...]] = {}
    for question in case_questions(case):
        if question.metric != "locality":
            key = question.metric, question.subtype, question.prompt
            answers[key] = (*answers.get(key, ()), *question.answers)
    questions = []
    for (metric, subtype, prompt), wanted in answers.items():
        targets = tuple(dict.fromkeys(answer for answer in wanted if answer.strip()))
        if targets:
            text = in_form(tokenizer, prompt, form)
            longest = max(len(split_at_answer(tokenizer, text, target)[1]) for target in targets)
            limit = max(SHOWN_TOKENS, longest + AROUND_TOKENS)
            questions.append(GeneratedQuestion(metric, subtype, prompt, text, targets, limit, AnswerPrefixes(targets)))
    return questions
