"""A model's answers to the prompts of edit requests, and whether they are the targets."""

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.token_batches import answer_length
from roselora.editing.request import EditRequest
from roselora.models.generation import limited_answers

SHOWN_TOKENS = 16
"""How many tokens of an answer are generated at least, to be shown and stored."""


def answers_to(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest], *, keep: bool = False
) -> list[list[str]]:
    """The greedy answers to the prompts of each request, all generated in shared batches.

    Each answer is long enough to show whether it continues beyond the target.

    Args:
        keep: answer the keep-prompts too; they follow the request's other prompts.
    """
    prompts = [(*request.prompts, *(request.keep if keep else ())) for request in requests]
    limits = [
        max(SHOWN_TOKENS, answer_length(tokenizer, request))
        for request, own in zip(requests, prompts, strict=True)
        for _ in own
    ]
    answers = iter(limited_answers(model, tokenizer, [prompt for own in prompts for prompt in own], limits))
    return [[next(answers).text for _ in own] for own in prompts]


def holds(request: EditRequest, answers: Sequence[str]) -> bool:
    """Whether the answers to all prompts of a request, which come before those to its keep-prompts, are the target.

    >>> holds(EditRequest("The capital of France is", "Lyon"), ["Lyon"])
    True
    """
    return all(answer == request.target for answer in answers[: len(request.prompts)])


def broken_requests(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest]
) -> list[int]:
    """The indices of the requests whose prompts the model does not all answer with the target."""
    answers = answers_to(model, tokenizer, requests)
    return [number for number, request in enumerate(requests) if not holds(request, answers[number])]
