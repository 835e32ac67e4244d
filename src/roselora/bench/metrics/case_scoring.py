"""The judge of the editing benchmark: what an edited model says to each case, against the target and the base."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.metrics.aggregate import Outcome, free_outcome, led_outcome, scores
from roselora.bench.metrics.case_questions import (
    FreeQuestion,
    LedQuestion,
    answer_questions,
    continuation_questions,
    free_questions,
    locality_prompts,
)
from roselora.bench.metrics.fluency import fluency
from roselora.bench.records.edit_bench_records import LOCALITY_TOKENS, Scores
from roselora.bench.tasks.edit_case import EditCase
from roselora.errors import ConfigError, NonFiniteError
from roselora.models.generation import BATCH_SIZE, Answer, greedy_tokens, limited_answers
from roselora.models.teacher_forcing import NO_TOKEN, teacher_forced


@dataclass(frozen=True)
class _Prepared:
    """A case's questions; those that compare with the base hold what it predicts."""

    case: EditCase
    free: tuple[FreeQuestion, ...]
    led: tuple[LedQuestion, ...]


class CaseScorer:
    """Scores cases on a model as it is now, against what it was when the cases were prepared.

    Each case is prepared while the model is unedited: at once by the constructor, or later by :meth:`prepare`, once
    every edit is taken back. What is held of the base is, for each question that must not move, its 16 tokens
    and the log-probabilities of its next token: 4 bytes for each entry of the vocabulary, so 0.2 MB at 49,152 entries
    and 0.2 GB for 1000 such questions.

    An edited model whose logits hold NaN gets no point where they do: its answers end there and count as wrong, its
    continuations as moved, the KL divergence is infinite, and what it says at length ends there.

    Args:
        model: edited and put back by others, between the calls.
        tokenizer: the model's.
        cases: to be prepared at once.
        fluency: whether to measure it, which takes 100 tokens of generation a case.
        batch_size: rows that go through the model together.
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
        """Note what the model, which must be unedited now, says to the cases that were not prepared before.

        Raises:
            NonFiniteError: the unedited model gives NaN.
            ConfigError: two cases have one key, or a question has no tokens.
        """
        new = self._unknown(cases)
        prompts = [prompt for case in new for _, prompt in locality_prompts(case)]
        said = iter(
            greedy_tokens(
                self.model, self.tokenizer, prompts, max_new_tokens=LOCALITY_TOKENS, batch_size=self.batch_size
            )
        )
        asked = []
        for case in new:
            own = [next(said) for _ in locality_prompts(case)]
            led = [*answer_questions(self.tokenizer, case), *continuation_questions(self.tokenizer, case, own)]
            asked.append(_Prepared(case, tuple(free_questions(self.tokenizer, case)), tuple(led)))
        self._prepared |= {one.case.key: one for one in self._settled(asked)}

    def forget(self, cases: Sequence[EditCase]) -> None:
        """Let go of what is held of the base for these cases."""
        for case in cases:
            self._prepared.pop(case.key, None)

    def score(self, cases: Sequence[EditCase]) -> list[Scores]:
        """The scores of prepared cases on the model as it is now, in their order; all share their batches.

        Raises:
            ConfigError: a case was not prepared.
        """
        asked = [self._get(case) for case in cases]
        said, free = self._answered(asked)
        led = self._led(asked)
        fluencies: Sequence[float | None] = [None] * len(asked)
        if self.fluency:
            prompts = [case.prompt for case in cases]
            fluencies = fluency(self.model, self.tokenizer, prompts, batch_size=self.batch_size)
        return [scores(*parts) for parts in zip(said, free, led, fluencies, strict=True)]

    def _unknown(self, cases: Sequence[EditCase]) -> list[EditCase]:
        """Those cases that are not prepared, each once."""
        new: dict[str, EditCase] = {}
        for case in cases:
            known = self._prepared[case.key].case if case.key in self._prepared else new.setdefault(case.key, case)
            if known != case:
                raise ConfigError(f"Two cases have the key {case.key!r}: give each its own.")
        return list(new.values())

    def _get(self, case: EditCase) -> _Prepared:
        prepared = self._prepared.get(case.key)
        if prepared is None or prepared.case != case:
            raise ConfigError(f"The case {case.key!r} was not prepared: do so while the model is unedited.")
        return prepared

    def _settled(self, asked: Sequence[_Prepared]) -> list[_Prepared]:
        """The cases with what the base predicts wherever the edited model is to be compared with it.

        A continuation's tokens too are taken from this pass, whose rounding is that of the pass that will score it.
        """
        flat = [question for one in asked for question in one.led]
        settled = dict(enumerate(flat))
        for index, forced in teacher_forced(
            self.model, [question.row for question in flat], batch_size=self.batch_size
        ):
            if NO_TOKEN in forced.tokens:
                raise NonFiniteError("The unedited model gives NaN, so nothing can be compared with it.")
            question = flat[index]
            if question.word == "locality":
                base = forced.log_probabilities() if question.continues else None
                settled[index] = replace(question, expected=forced.tokens, base=base)
        questions = iter(settled.values())
        return [replace(one, led=tuple(next(questions) for _ in one.led)) for one in asked]

    def _answered(self, asked: Sequence[_Prepared]) -> tuple[list[str], list[list[Outcome]]]:
        """For each case, what the model says to its prompt, and the outcome of all that it says by itself."""
        flat = [question for one in asked for question in one.free]
        prompts, limits = [question.prompt for question in flat], [question.limit for question in flat]
        answers = limited_answers(
            self.model,
            self.tokenizer,
            prompts,
            limits,
            batch_size=self.batch_size,
            give_up=lambda index, new, text: flat[index].given_up(new, text),
        )
        pairs = iter(zip(flat, answers, strict=True))
        own: list[list[tuple[FreeQuestion, Answer]]] = [[next(pairs) for _ in one.free] for one in asked]
        said = [first[1].text for first, *_ in own]
        return said, [[free_outcome(question, answer) for question, answer in case] for case in own]

    def _led(self, asked: Sequence[_Prepared]) -> list[list[Outcome]]:
        """For each case, the outcomes of all that the model is led through."""
        flat = [question for one in asked for question in one.led]
        rows = [question.row for question in flat]
        found = {
            index: led_outcome(flat[index], forced)
            for index, forced in teacher_forced(self.model, rows, batch_size=self.batch_size)
        }
        outcomes = (found[index] for index in range(len(flat)))
        return [[next(outcomes) for _ in one.led] for one in asked]
