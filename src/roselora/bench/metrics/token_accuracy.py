"""EasyEdit's scores, only for comparison with published tables: token accuracy by teacher forcing.

The model reads prompt, space and answer in one pass; the score is the share of the answer's tokens that are its argmax.
That gives partial credit and leaks the answer's length. Definitions are those of EasyEdit's ``evaluate_utils.py`` (Wang
et al., ACL 2024 demos, arXiv 2308.07269): prompt and prompt + " " + answer are tokenized separately, and the answer's
tokens are those after as many as the prompt alone has. There is no end-of-sequence token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from roselora.bench.metrics.case_questions import MetricName, Outcome, case_questions
from roselora.bench.tasks.edit_case import EditCase
from roselora.models.teacher_forcing import NO_TOKEN, TeacherForced, TeacherForcedRow
from roselora.models.tokenization import encode


@dataclass(frozen=True)
class ForcedAnswer:
    """A question with its first answer, to be read in one pass.

    Attributes:
        metric, subtype: what it tests; ``prompt``: the question.
        row: what the model reads: all but the answer's last token, after which nothing is predicted.
        expected: the tokens that count as right: the answer's, or for locality what the base model predicts.
    """

    metric: MetricName
    subtype: str
    prompt: str
    row: TeacherForcedRow
    expected: list[int]

    def compared_with_base(self, base: TeacherForced) -> "ForcedAnswer":
        """The question with what the base model predicts along the row."""
        return replace(self, expected=base.tokens) if self.metric == "locality" else self

    def outcome(self, predicted: TeacherForced) -> Outcome:
        """The share of tokens that are predicted as expected."""
        return Outcome(self.metric, self.subtype, share_equal(predicted.tokens, self.expected))


def forced_answers(tokenizer: PreTrainedTokenizerBase, case: EditCase) -> list[ForcedAnswer]:
    """Every question of the case with its first answer; blank answers are left out."""
    found = []
    for metric, subtype, prompt, answers in case_questions(case):
        tokens = answer_row(tokenizer, prompt, answers[0]) if answers else None
        if tokens is not None and metric != "behind_sentence":  # which EasyEdit does not ask
            found.append(ForcedAnswer(metric, subtype, prompt, *tokens))
    return found


def answer_row(
    tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str
) -> tuple[TeacherForcedRow, list[int]] | None:
    """What the model reads for one question, and the answer's tokens; None where the answer is blank or has no tokens.

    EasyEdit skips answers without tokens. With some tokenizers a blank answer has one, the space before it; that is
    skipped here too.
    """
    prompt_length = len(encode(tokenizer, prompt))
    ids = encode(tokenizer, f"{prompt} {answer}")
    if not answer.strip() or not 0 < prompt_length < len(ids):
        return None
    return TeacherForcedRow(ids[:-1], prompt_length - 1), ids[prompt_length:]


def share_equal(predicted: Sequence[int], expected: Sequence[int]) -> float:
    """The share of positions at which two equally long rows of tokens agree; NO_TOKEN agrees with nothing.

    >>> share_equal([5, 6, 7, 8], [5, 0, 7, 0])
    0.5

    Raises:
        ValueError: the rows are empty, or their lengths differ.
    """
    pairs = list(zip(predicted, expected, strict=True))
    if not pairs:
        raise ValueError("There are no tokens to compare.")
    return sum(left == right != NO_TOKEN for left, right in pairs) / len(pairs)
