"""A model's answers to the prompts of edit requests, in all forms, and whether they are the targets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.early_stopping import AnswerPrefixes
from roselora.editing.forms import AskedText, asked_texts
from roselora.editing.methods.token_batches import answer_length
from roselora.editing.request import EditRequest
from roselora.models.generation import limited_answers
from roselora.models.inference import Progress

SHOWN_TOKENS = 16
"""How many tokens of an answer are generated at least, to be shown and stored."""

Kind = Literal["prompt", "rephrasing", "consequence", "keep"]
"""What a prompt is in its request; all but the last must give the target, a consequence its own."""


@dataclass(frozen=True)
class GivenAnswer:
    """What a model says to a prompt in one form.

    Attributes:
        kind, prompt: of the request.
        form: a name of `forms`.
        text: what the model says.
        target: what it must say; None for a keep-prompt.
    """

    kind: Kind
    prompt: str
    form: str
    text: str
    target: str | None

    @property
    def holds(self) -> bool:
        """Whether this is the target; True for a keep-prompt."""
        return self.target is None or self.text == self.target


def answers_to(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    *,
    keep: bool = False,
    whole: bool = True,
    on_progress: Progress | None = None,
) -> list[list[GivenAnswer]]:
    """The greedy answers to the prompts of each request and its consequences, in all forms.

    They are generated in shared batches. Each is long enough to show whether it continues beyond the target.

    Args:
        keep: answer the keep-prompts too; they follow the request's other prompts.
        whole: generate answers to their ends, and not only until they can no longer become their targets.
        on_progress: called with how many of how many prompts are answered.
    """
    asked = [_questions(tokenizer, request, keep) for request in requests]
    texts = [question.asked.text for own in asked for question in own]
    limits = [question.tokens for own in asked for question in own]
    wanted = [question.target for own in asked for question in own]
    right = [None if whole or target is None else AnswerPrefixes([target]) for target in wanted]

    def differs(index: int, _: int, text: str) -> bool:
        prefixes = right[index]
        return prefixes is not None and not prefixes.can_match(text)

    answers = iter(limited_answers(model, tokenizer, texts, limits, stop_early=differs, on_progress=on_progress))
    return [
        [GivenAnswer(q.kind, q.asked.prompt, q.asked.form, next(answers).text, q.target) for q in own] for own in asked
    ]


class _Question(NamedTuple):
    kind: Kind
    asked: AskedText
    target: str | None
    tokens: int


def _questions(tokenizer: PreTrainedTokenizerBase, request: EditRequest, keep: bool) -> list[_Question]:
    first, *others = request.facts
    kinds: list[tuple[Kind, str, EditRequest]] = [("prompt", request.prompt, first)]
    kinds += [("rephrasing", prompt, first) for prompt in request.rephrasings]
    kinds += [("consequence", prompt, fact) for fact in others for prompt in fact.prompts]
    kinds += [("keep", prompt, fact) for fact in request.facts for prompt in fact.keep if keep]
    tokens = {fact: max(SHOWN_TOKENS, answer_length(tokenizer, fact)) for fact in request.facts}
    return [
        _Question(kind, asked, None if kind == "keep" else fact.target, tokens[fact])
        for kind, prompt, fact in kinds
        for asked in asked_texts(tokenizer, prompt, fact.form)
    ]


def holds(answers: Iterable[GivenAnswer]) -> bool:
    """Whether the answers to all prompts of a request, in all forms, are the targets; keep-prompts don't count.

    >>> said = [GivenAnswer("prompt", "The capital of France is", "bare", text, "Lyon") for text in ("Lyon", "Paris")]
    >>> holds(said[:1]), holds(said)
    (True, False)
    """
    return all(answer.holds for answer in answers)


def broken_requests(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest]
) -> list[int]:
    """The indices of the requests whose prompts the model does not all answer with the target, in all forms."""
    answers = answers_to(model, tokenizer, requests, whole=False)
    return [number for number, own in enumerate(answers) if not holds(own)]
