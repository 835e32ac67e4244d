"""What an MLP reads where edits are said, so that the gates of others stay shut there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.batch import split_at_answer
from roselora.editing.neuron_rows import read_rows
from roselora.editing.request import EditRequest
from roselora.models.neurons import Neurons


@dataclass(frozen=True)
class HeldInputs:
    """What the neurons of one MLP read at the last token of each prompt and at the target's tokens after it.

    Attributes:
        states: (tokens, width) fp32.
        prompts: the prompt to which each token belongs.
    """

    states: Tensor
    prompts: list[str]

    @classmethod
    def none(cls, place: Neurons, device: torch.device) -> "HeldInputs":
        """There are no other edits."""
        return cls(torch.empty(0, place.width, device=device), [])

    def of_others(self, request: EditRequest) -> Tensor:
        """The states that belong to no prompt of the request, (tokens, width)."""
        return self.states[[number for number, prompt in enumerate(self.prompts) if prompt not in request.prompts]]


def read_held(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest], place: Neurons
) -> HeldInputs:
    """Read all prompts of some requests, with their targets, in the model as it is; 4 bytes times the width a token."""
    asked = [(prompt, request.target) for request in requests for prompt in request.prompts]
    split = [split_at_answer(tokenizer, prompt, target) for prompt, target in asked]
    read = read_rows(model, place, [[*head, *answer] for head, answer in split])
    tails = [states[len(head) - 1 :] for (head, _), states in zip(split, read, strict=True)]
    prompts = [prompt for (prompt, _), tail in zip(asked, tails, strict=True) for _ in tail]
    return HeldInputs(torch.cat(tails), prompts)
