"""What a case asks of a model: questions to be answered freely, and rows to be predicted along."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from roselora.bench.metrics.early_stopping import AnswerPrefixes
from roselora.bench.metrics.locality import continuation_row
from roselora.bench.metrics.token_accuracy import answer_row
from roselora.bench.tasks.edit_case import EditCase
from roselora.editing.methods.token_batches import split_at_answer
from roselora.models.teacher_forcing import ForcedRow

Word = Literal["reliability", "generalization", "portability", "locality"]

SHOWN_TOKENS = 8
"""How much of every answer is asked for at least, so that a record can be read."""

AROUND_TOKENS = 4
"""How much may stand around a right answer: an article, quotes, a full stop, and the EOS or newline that ends it."""


@dataclass(frozen=True)
class FreeQuestion:
    """A question that the model answers by itself.

    Attributes:
        word, subtype: what it judges; the sub-type is "" where there are none.
        prompt: the question.
        targets: the answers that count, at least one that is not blank.
        limit: new tokens after which an answer can be none of them.
        prospects: tells an answer that can be none of them sooner.
    """

    word: Word
    subtype: str
    prompt: str
    targets: tuple[str, ...]
    limit: int
    prospects: AnswerPrefixes = field(compare=False)

    def given_up(self, new_tokens: int, said: str) -> bool:
        """Whether the answer, long enough to be read, can no longer become a target."""
        return new_tokens >= SHOWN_TOKENS and not self.prospects.has(said)


@dataclass(frozen=True)
class LedQuestion:
    """A question whose answer, or the base's continuation, the model is led through in one pass.

    Attributes:
        word, subtype: what it judges.
        row: what goes through the model.
        expected: the tokens that count as right along it.
        continues: whether it goes along the base's continuation; else along an answer, and the score is EasyEdit's.
        base: (vocabulary,) fp32 on the CPU, of a continuation the base's log-probabilities of the first token.
    """

    word: Word
    subtype: str
    row: ForcedRow
    expected: list[int]
    continues: bool = False
    base: Tensor | None = None


def free_questions(tokenizer: PreTrainedTokenizerBase, case: EditCase) -> list[FreeQuestion]:
    """The case's prompt first, then its rephrasings and its portability; a question without an answer is left out.

    A question that a record asks several times, with another right answer each (a country's official languages), is
    asked once, and any of them counts: nobody could give them all at once.
    """
    wanted: dict[tuple[Word, str, str], tuple[str, ...]] = {}
    for word, subtype, prompt, answers in _questions(case):
        if word != "locality":
            wanted[word, subtype, prompt] = (*wanted.get((word, subtype, prompt), ()), *answers)
    questions = []
    for (word, subtype, prompt), answers in wanted.items():
        targets = tuple(dict.fromkeys(answer for answer in answers if answer.strip()))
        if targets:
            longest = max(len(split_at_answer(tokenizer, prompt, target)[1]) for target in targets)
            limit = max(SHOWN_TOKENS, longest + AROUND_TOKENS)
            questions.append(FreeQuestion(word, subtype, prompt, targets, limit, AnswerPrefixes(targets)))
    return questions


def answer_questions(tokenizer: PreTrainedTokenizerBase, case: EditCase) -> list[LedQuestion]:
    """EasyEdit's: every question led through its first answer; blank answers are left out."""
    questions = []
    for word, subtype, prompt, answers in _questions(case):
        led = answer_row(tokenizer, prompt, answers[0]) if answers else None
        if led is not None:
            questions.append(LedQuestion(word, subtype, led.row, led.answer))
    return questions


def continuation_questions(
    tokenizer: PreTrainedTokenizerBase, case: EditCase, said: Sequence[Sequence[int]]
) -> list[LedQuestion]:
    """The questions that must not move, led through what the base said to each of them, in order."""
    questions = []
    for (subtype, prompt), tokens in zip(locality_prompts(case), said, strict=True):
        row, expected = continuation_row(tokenizer, prompt, tokens)
        questions.append(LedQuestion("locality", subtype, row, expected, continues=True))
    return questions


def locality_prompts(case: EditCase) -> list[tuple[str, str]]:
    """Sub-type and prompt of every question that must not move."""
    return [(subtype, probe.prompt) for subtype, probes in case.locality.items() for probe in probes]


def _questions(case: EditCase) -> Iterator[tuple[Word, str, str, tuple[str, ...]]]:
    """Word, sub-type, prompt and answers of every question."""
    yield "reliability", "", case.prompt, (case.target,)
    for prompt in case.rephrasings:
        yield "generalization", "", prompt, (case.target,)
    for subtype, probes in case.portability.items():
        for probe in probes:
            yield "portability", subtype, probe.prompt, probe.answers
    for subtype, probes in case.locality.items():
        for probe in probes:
            yield "locality", subtype, probe.prompt, probe.answers
