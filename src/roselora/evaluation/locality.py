"""Locality in one forward pass: whether a model still says, greedily, what the base said.

A greedy continuation equals the base's if and only if, led along the base's prompt and continuation, the model's argmax
is the base's next token at every position. One pass thus says what up to 16 steps of generation would.

Rounding is the one difference: generation with a cache, and batches of other shapes, sum in another order,
which decides where two tokens have almost one logit; in bf16 and fp16 they often do. So a judge best compares with what
the base itself predicts in this very pass along its own continuation.
"""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.evaluation.records import LOCALITY_TOKENS
from roselora.models.forced import ForcedRow, teacher_forced
from roselora.models.generation import BATCH_SIZE


def continuation_row(
    tokenizer: PreTrainedTokenizerBase, prompt: str, said: Sequence[int], *, max_new_tokens: int = LOCALITY_TOKENS
) -> tuple[ForcedRow, list[int]]:
    """A prompt with what the base said after it, and the tokens that must be predicted along it.

    Args:
        said: the base's greedy tokens; fewer than ``max_new_tokens`` mean that it stopped by EOS, which must then be
            predicted after them.
    """
    prompt_ids = list(tokenizer(prompt).input_ids)
    expected = list(said)
    if len(expected) < max_new_tokens and tokenizer.eos_token_id is not None:
        expected.append(tokenizer.eos_token_id)
    return ForcedRow(prompt_ids + expected[:-1], len(prompt_ids) - 1), expected


def still_said(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    base: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = LOCALITY_TOKENS,
    batch_size: int = BATCH_SIZE,
) -> tuple[list[bool], list[Tensor]]:
    """For each prompt, whether the model's greedy tokens are the base's, and its next-token log-probabilities.

    Args:
        base: what ``greedy_tokens`` of the base gave with the same ``max_new_tokens``.

    Returns:
        The list that ``unmoved(base, greedy_tokens(model, ...))`` would be, but for rounding where two tokens tie,
        and NaN is never unmoved; and for each prompt (vocabulary,) fp32 on the CPU, nats.
    """
    pairs = [
        continuation_row(tokenizer, prompt, said, max_new_tokens=max_new_tokens)
        for prompt, said in zip(prompts, base, strict=True)
    ]
    same = [False] * len(pairs)
    distributions: dict[int, Tensor] = {}
    for index, forced in teacher_forced(model, [row for row, _ in pairs], batch_size=batch_size):
        same[index] = forced.tokens == pairs[index][1]
        distributions[index] = forced.log_probabilities()
    return same, [distributions[index] for index in range(len(pairs))]
