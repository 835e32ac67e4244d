"""What a model says to an edit's prompts, and whether that is the target."""

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.token_batches import answer_length
from roselora.editing.request import EditRequest
from roselora.models.generation import limited_answers

SHOWN_TOKENS = 16
"""How much of an answer that is no target is asked for and remembered."""


def ask(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: EditRequest, *, kept: bool = False
) -> list[str]:
    """What the model says to a request's prompts, and if wanted to those that it keeps; as `ask_each`."""
    (answers,) = ask_each(model, tokenizer, [request], kept=kept)
    return answers


def ask_each(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest], *, kept: bool = False
) -> list[list[str]]:
    """The greedy answers to each request's prompts, then if wanted to its keep-prompts; all share their batches.

    They are long enough to tell a target that goes on.
    """
    prompts = [(*request.prompts, *(request.keep if kept else ())) for request in requests]
    limits = [
        max(SHOWN_TOKENS, answer_length(tokenizer, request))
        for request, own in zip(requests, prompts, strict=True)
        for _ in own
    ]
    said = iter(limited_answers(model, tokenizer, [prompt for own in prompts for prompt in own], limits))
    return [[next(said).text for _ in own] for own in prompts]


def holds(request: EditRequest, answers: Sequence[str]) -> bool:
    """Whether the answers to the request's prompts, the first ones, are all the target."""
    return all(answer == request.target for answer in answers[: len(request.prompts)])


def unheld(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest]) -> list[int]:
    """The indices of the requests that the model does not answer with their targets; all share their batches."""
    answers = ask_each(model, tokenizer, requests)
    return [number for number, request in enumerate(requests) if not holds(request, answers[number])]
