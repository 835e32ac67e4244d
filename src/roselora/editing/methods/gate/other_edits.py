"""What an MLP reads where other edits are asked for, so that a new gate stays closed there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.forms import AskedText, request_texts
from roselora.editing.methods.gate.prompt_subjects import content_words, subject_of
from roselora.editing.methods.gate.training_texts import opened_texts, read_rows
from roselora.editing.methods.token_batches import split_at_answer
from roselora.editing.request import EditRequest
from roselora.models.inference import eval_mode
from roselora.models.mlp_neurons import Neurons

NEAREST = 32
"""At how many previous edits a new one must stay inactive: only the nearest, so that its cost does not grow."""


@dataclass(frozen=True)
class OtherEditInputs:
    """What an MLP reads at the last token of each prompt of some edits, and at the target's tokens after it.

    Attributes:
        states: (tokens, width) fp32.
        prompts: the prompt to which each token belongs.
    """

    states: Tensor
    prompts: list[str]

    def excluding(self, request: EditRequest) -> Tensor:
        """The states that belong to no prompt of the request, (tokens, width)."""
        return self.states[[number for number, prompt in enumerate(self.prompts) if prompt not in request.prompts]]


def nearest_edits(requests: Sequence[EditRequest], previous: Sequence[EditRequest]) -> list[EditRequest]:
    """For each request the `NEAREST` previous edits that share most words with it, the newest first; each once.

    Args:
        previous: oldest first; those that share a prompt with the request are left out, because it supersedes them.
    """
    words = [_words(request) for request in previous]
    found: set[int] = set()
    for request in requests:
        own = _words(request)
        others = [n for n in reversed(range(len(previous))) if set(request.prompts).isdisjoint(previous[n].prompts)]
        found.update(sorted(others, key=lambda n: -len(own & words[n]))[:NEAREST])
    return [previous[number] for number in sorted(found)]


def _words(request: EditRequest) -> set[str]:
    return set().union(*map(content_words, request.prompts))


def read_other_edits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    neurons: Neurons,
    subjects: Collection[str] = (),
) -> OtherEditInputs:
    """Read all prompts of some requests in all forms, with their targets, in the model as it is.

    Args:
        subjects: those of the new edits. Requests about the same subjects come nearest to these, and above all what
            follows from them ("the country of the place where {} was born"): they are read behind other text too.
    """
    if not requests:
        return OtherEditInputs(torch.empty(0, neurons.width, dtype=torch.float32, device=model.device), [])

    def texts(request: EditRequest) -> list[AskedText]:
        return (opened_texts if subject_of(request) in subjects else request_texts)(tokenizer, request)

    asked = [(text, request.target) for request in requests for text in texts(request)]
    split = [split_at_answer(tokenizer, each.text, target, each.space) for each, target in asked]
    with eval_mode(model):
        read = read_rows(model, neurons, [[*head, *answer] for head, answer in split])
    answer_states = [states[len(head) - 1 :] for (head, _), states in zip(split, read, strict=True)]
    prompts = [each.prompt for (each, _), states in zip(asked, answer_states, strict=True) for _ in states]
    return OtherEditInputs(torch.cat(answer_states), prompts)
