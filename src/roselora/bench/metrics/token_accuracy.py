"""EasyEdit's scores, for comparison with published tables alone: token accuracy by teacher forcing.

The model is led through prompt, space and answer in one pass; the score is the share of the answer's tokens that are
its argmax. That gives partial credit and leaks the answer's length. Definitions as in EasyEdit's ``evaluate_utils.py``
(Wang et al., ACL 2024 demos, arXiv 2308.07269): prompt and prompt + " " + answer are tokenized each by itself, and the
answer's tokens are those after as many as the prompt has alone. No end-of-sequence token takes part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from roselora.models.teacher_forcing import NO_TOKEN, ForcedRow
from roselora.models.tokenization import encode


@dataclass(frozen=True)
class AnswerRow:
    """A question led through its answer.

    Attributes:
        row: what goes through the model: all but the answer's last token, after which nothing is asked.
        answer: the answer's tokens.
    """

    row: ForcedRow
    answer: list[int]


def answer_row(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> AnswerRow | None:
    """The row of one question, or None where the answer is blank or has no tokens of its own: it is skipped.

    EasyEdit skips what has no tokens; with some tokenizers a blank answer has one, the space before it, and that is
    skipped here too.
    """
    asked = len(encode(tokenizer, prompt))
    ids = encode(tokenizer, f"{prompt} {answer}")
    if not answer.strip() or not 0 < asked < len(ids):
        return None
    return AnswerRow(ForcedRow(ids[:-1], asked - 1), ids[asked:])


def share_equal(predicted: Sequence[int], expected: Sequence[int]) -> float:
    """The share of positions at which two equally long rows of tokens agree; NO_TOKEN agrees with nothing.

    Raises:
        ValueError: the rows are empty, or not of one length.
    """
    pairs = list(zip(predicted, expected, strict=True))
    if not pairs:
        raise ValueError("There are no tokens to compare.")
    return sum(left == right != NO_TOKEN for left, right in pairs) / len(pairs)
