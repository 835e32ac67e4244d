"""A model's answers to the prompts of edit requests, in all forms, and whether they are the targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.forms import AskedText, asked_texts
from roselora.editing.methods.token_batches import answer_length
from roselora.editing.request import EditRequest
from roselora.models.generation import limited_answers

SHOWN_TOKENS = 16
"""How many tokens of an answer are generated at least, to be shown and stored."""

Kind = Literal["prompt", "rephrasing", "keep"]
"""What a prompt is in its request; all but the last must give the target."""


@dataclass(frozen=True)
class GivenAnswer:
    """What a model says to a prompt in one form; `form` is a name of `forms`."""

    kind: Kind
    prompt: str
    form: str
    text: str


def answers_to(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest], *, keep: bool = False
) -> list[list[GivenAnswer]]:
    """The greedy answers to the prompts of each request in all forms, all generated in shared batches.

    Each answer is long enough to show whether it continues beyond the target.

    Args:
        keep: answer the keep-prompts too; they follow the request's other prompts.
    """
    asked = [_questions(tokenizer, request, keep) for request in requests]
    limits = [
        max(SHOWN_TOKENS, answer_length(tokenizer, request))
        for request, own in zip(requests, asked, strict=True)
        for _ in own
    ]
    texts = [question.text for own in asked for _, question in own]
    answers = iter(limited_answers(model, tokenizer, texts, limits))
    return [[GivenAnswer(kind, each.prompt, each.form, next(answers).text) for kind, each in own] for own in asked]


def _questions(tokenizer: PreTrainedTokenizerBase, request: EditRequest, keep: bool) -> list[tuple[Kind, AskedText]]:
    kinds: list[tuple[Kind, str]] = [("prompt", request.prompt)]
    kinds += [("rephrasing", prompt) for prompt in request.rephrasings]
    kinds += [("keep", prompt) for prompt in request.keep if keep]
    return [(kind, asked) for kind, prompt in kinds for asked in asked_texts(tokenizer, prompt, request.form)]


def holds(request: EditRequest, answers: Sequence[GivenAnswer]) -> bool:
    """Whether the answers to all prompts of a request, in all forms, are the target; keep-prompts don't count.

    >>> asked = EditRequest("The capital of France is", "Lyon")
    >>> said = [GivenAnswer("prompt", asked.prompt, form, text) for form, text in (("bare", "Lyon"), ("chat", "Paris"))]
    >>> holds(asked, said[:1]), holds(asked, said)
    (True, False)
    """
    return all(answer.text == request.target for answer in answers if answer.kind != "keep")


def broken_requests(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest]
) -> list[int]:
    """The indices of the requests whose prompts the model does not all answer with the target, in all forms."""
    answers = answers_to(model, tokenizer, requests)
    return [number for number, request in enumerate(requests) if not holds(request, answers[number])]
