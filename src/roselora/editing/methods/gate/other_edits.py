"""What an MLP reads where edits are said, so that the gates of others stay shut there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.gate.prompt_subjects import telling_words
from roselora.editing.methods.gate.training_texts import read_rows
from roselora.editing.methods.token_batches import split_at_answer
from roselora.editing.request import EditRequest
from roselora.models.inference import evaluating
from roselora.models.mlp_neurons import Neurons

NEAREST = 32
"""At how many earlier edits an edit must stay silent: the nearest, so that its cost does not grow with their number."""


@dataclass(frozen=True)
class OtherEditInputs:
    """What the neurons of one MLP read at the last token of each prompt and at the target's tokens after it.

    Attributes:
        states: (tokens, width) fp32.
        prompts: the prompt to which each token belongs.
    """

    states: Tensor
    prompts: list[str]

    @classmethod
    def none(cls, place: Neurons, device: torch.device) -> "OtherEditInputs":
        """There are no other edits."""
        return cls(torch.empty(0, place.width, dtype=torch.float32, device=device), [])

    def excluding(self, request: EditRequest) -> Tensor:
        """The states that belong to no prompt of the request, (tokens, width)."""
        return self.states[[number for number, prompt in enumerate(self.prompts) if prompt not in request.prompts]]


def nearest_edits(requests: Sequence[EditRequest], earlier: Sequence[EditRequest]) -> list[EditRequest]:
    """Of each request the earlier ones that share most words with it, of equally near ones the newest, each once.

    Args:
        earlier: oldest first; those with a prompt of the request are passed over, for they are about to be superseded.
    """
    words = [_words(request) for request in earlier]
    found: set[int] = set()
    for request in requests:
        own = _words(request)
        others = [n for n in reversed(range(len(earlier))) if set(request.prompts).isdisjoint(earlier[n].prompts)]
        found.update(sorted(others, key=lambda n: -len(own & words[n]))[:NEAREST])
    return [earlier[number] for number in sorted(found)]


def _words(request: EditRequest) -> set[str]:
    return set().union(*map(telling_words, request.prompts))


def read_other_edits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest], place: Neurons
) -> OtherEditInputs:
    """Read all prompts of some requests, with their targets, in the model as it is; 4 bytes times the width a token."""
    if not requests:
        return OtherEditInputs.none(place, model.device)
    asked = [(prompt, request.target, request.space) for request in requests for prompt in request.prompts]
    split = [split_at_answer(tokenizer, *each) for each in asked]
    with evaluating(model):
        read = read_rows(model, place, [[*head, *answer] for head, answer in split])
    tails = [states[len(head) - 1 :] for (head, _), states in zip(split, read, strict=True)]
    prompts = [prompt for (prompt, *_), tail in zip(asked, tails, strict=True) for _ in tail]
    return OtherEditInputs(torch.cat(tails), prompts)
