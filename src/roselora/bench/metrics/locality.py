"""Locality in one forward pass: whether a model still says, greedily, what the base said.

A greedy continuation equals the base's if and only if, led along the base's prompt and continuation, the model's argmax
is the base's next token at every position. One pass thus says what up to 16 steps of generation would.

Rounding is the one difference: generation with a cache, and batches of other shapes, sum in another order,
which decides where two tokens have almost one logit; in bf16 and fp16 they often do. So a judge best compares with what
the base itself predicts in this very pass along its own continuation.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from roselora.bench.records.edit_bench_records import LOCALITY_TOKENS
from roselora.models.teacher_forcing import ForcedRow
from roselora.models.tokenization import encode


def continuation_row(
    tokenizer: PreTrainedTokenizerBase, prompt: str, said: Sequence[int], *, max_new_tokens: int = LOCALITY_TOKENS
) -> tuple[ForcedRow, list[int]]:
    """A prompt with what the base said after it, and the tokens that must be predicted along it.

    Args:
        said: the base's greedy tokens; fewer than ``max_new_tokens`` mean that it stopped by EOS, which must then be
            predicted after them.
    """
    prompt_ids = encode(tokenizer, prompt)
    expected = list(said)
    if len(expected) < max_new_tokens and tokenizer.eos_token_id is not None:
        expected.append(tokenizer.eos_token_id)
    return ForcedRow(prompt_ids + expected[:-1], len(prompt_ids) - 1), expected
