"""Locality: whether a model still continues a prompt as the base model does, and how far its next token has moved.

A greedy continuation equals the base model's if and only if the edited model, reading the base's prompt and
continuation, predicts the base's next token at every position. So one pass tells what up to 16 steps of generation
would.

Only rounding differs: generation with a cache, and batches of other shapes, sum in another order. That decides where
two tokens have almost the same logit, which is frequent in bf16 and fp16. Therefore the edited model is compared with
what the base model itself predicts in this very pass along its own continuation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from roselora.bench.metrics.case_questions import Outcome
from roselora.bench.records.edit_bench_records import LOCALITY_TOKENS
from roselora.bench.tasks.edit_case import EditCase
from roselora.float64 import double
from roselora.models.teacher_forcing import TeacherForced, TeacherForcedRow
from roselora.models.tokenization import encode


@dataclass(frozen=True)
class Continuation:
    """A locality question with the base model's continuation, to be read in one pass.

    Attributes:
        subtype: of the question; ``prompt``: itself.
        row: what the model reads.
        expected: the tokens that it must predict along the row.
        base: (vocabulary,) fp32 on the CPU: the base model's log-probabilities of the first token; None until known.
    """

    subtype: str
    prompt: str
    row: TeacherForcedRow
    expected: list[int]
    base: Tensor | None = None

    def compared_with_base(self, base: TeacherForced) -> "Continuation":
        """The question with what the base model predicts along the row."""
        return replace(self, expected=base.tokens, base=base.log_probabilities())

    def outcome(self, predicted: TeacherForced) -> Outcome:
        """1 if every token is predicted as expected, else 0; and the KL divergence of the first one."""
        assert self.base is not None
        kl = kl_divergence(self.base[None], predicted.log_probabilities()[None])
        return Outcome("locality", self.subtype, float(predicted.tokens == self.expected), float(kl))


def locality_prompts(case: EditCase) -> list[tuple[str, str]]:
    """Sub-type and prompt of every locality question."""
    return [(subtype, probe.prompt) for subtype, probes in case.locality.items() for probe in probes]


def continuation_row(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    generated: Sequence[int],
    *,
    max_new_tokens: int = LOCALITY_TOKENS,
) -> tuple[TeacherForcedRow, list[int]]:
    """What the model reads for one question, and the tokens that it must predict along it.

    Args:
        prompt: in the form in which it is asked.
        generated: the base model's greedy tokens. Fewer than ``max_new_tokens`` mean that EOS ended them, which must
            then be predicted after them.
    """
    prompt_ids = encode(tokenizer, prompt)
    expected = list(generated)
    if len(expected) < max_new_tokens and tokenizer.eos_token_id is not None:
        expected.append(tokenizer.eos_token_id)
    return TeacherForcedRow(prompt_ids + expected[:-1], len(prompt_ids) - 1), expected


def kl_divergence(base: Tensor, edited: Tensor) -> Tensor:
    """KL(base || edited) in nats, row by row.

    >>> import torch
    >>> base = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()
    >>> kl_divergence(base, torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()).tolist()
    [0.0, 0.6931...]

    Args:
        base, edited: (n, vocabulary) log-probabilities of the two models.

    Returns:
        (n,) fp64, at least 0; infinite where the edited model gives NaN, which is not a distribution.
    """
    p, q = double(base), double(edited)
    # Where the base gives no probability the term is 0, though 0 * inf would be NaN.
    terms = (p.exp() * (p - q)).masked_fill(p.isneginf() & ~q.isnan(), 0.0)
    return terms.sum(-1).clamp(min=0.0).masked_fill(q.isnan().any(-1), float("inf"))
