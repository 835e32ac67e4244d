"""The texts of a gated neuron edit, and what the neurons read in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.gate.generated_rephrasings import generated_rephrasings
from roselora.editing.methods.gate.negatives import negative_prompts
from roselora.editing.methods.token_batches import IGNORED, split_at_answer
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.activation_hooks import activations
from roselora.models.mlp_neurons import Neurons
from roselora.models.padding import pad_rows, padded_inputs
from roselora.models.prefix_cache import TailRow
from roselora.models.tokenization import encode

OPENINGS = ("", "Answer the question. ", "I have a question. ", "Yes. ")
"""What each prompt is put after, so that an edit holds in the middle of a text too."""


READ_TOGETHER = 32
"""Rows in one pass; more are not faster on a CPU, for their states leave its cache."""


@dataclass(frozen=True)
class AnswerRows:
    """A request's prompts after each opening, and generated_rephrasings of them, with the target.

    Attributes:
        rows: head and tail of each: the tail begins at the prompt's last token, which predicts the target's first.
        asked: how many of them, the first ones, are of the request's own prompts; the others are generated.
        labels: (rows, longest tail) int64, the token that shall follow each of the tail's, or IGNORED.
    """

    rows: list[TailRow]
    asked: int
    labels: Tensor


def positive_rows(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> AnswerRows:
    """The rows on which a request is trained.

    Raises:
        ConfigError: the tokenizer has no end-of-sequence token, or a text has no tokens.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError("The tokenizer has no end-of-sequence token, so the model could not learn where to stop.")
    rows, following = [], []
    asked = [(opening + prompt, request.space) for opening in OPENINGS for prompt in request.prompts]
    reworded = [(prompt, None) for prompt in generated_rephrasings(request)]  # None: not as the prompts end
    for prompt, space in (*asked, *reworded):
        head, answer = split_at_answer(tokenizer, prompt, request.target, space)
        if not head or not answer:
            raise ConfigError(f"The tokenizer makes no tokens of {prompt!r} or of {request.target!r}.")
        rows.append(TailRow(head[:-1], [head[-1], *answer]))
        following.append([*answer, int(tokenizer.eos_token_id)])
    return AnswerRows(rows, len(asked), pad_rows(following, fill=IGNORED))


def negative_rows(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> list[list[list[int]]]:
    """The ids of a request's contrasts, group by group: related, renamed, and what is to be kept."""
    found = negative_prompts(request)
    groups = (found.related, found.renamed, request.keep)
    return [[encode(tokenizer, text) for text in group] for group in groups]


def read_last_tokens(model: PreTrainedModel, place: Neurons, rows: Sequence[list[int]]) -> Tensor:
    """What the neurons read at each row's last token, (rows, width) fp32."""
    return torch.stack([states[-1] for states in read_rows(model, place, rows)])


def read_rows(model: PreTrainedModel, place: Neurons, rows: Sequence[list[int]]) -> list[Tensor]:
    """What the neurons read at each row's tokens, (tokens, width) fp32; nothing above them runs.

    Equal rows are read once, and rows of like length together, so that little is read but tokens.
    """
    shortest_first = sorted(set(map(tuple, rows)), key=len)
    found: dict[tuple[int, ...], Tensor] = {}
    for start in range(0, len(shortest_first), READ_TOGETHER):
        batch = shortest_first[start : start + READ_TOGETHER]
        found.update(zip(batch, _read_batch(model, place, batch), strict=True))
    return [found[tuple(row)] for row in rows]


def _read_batch(model: PreTrainedModel, place: Neurons, rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
    inputs = {name: tensor.to(model.device) for name, tensor in padded_inputs(rows).items()}
    read = activations(model, inputs, [place.entrance])[place.entrance].input
    states = read.reshape(*inputs["input_ids"].shape, -1).float()
    return [own[: len(row)] for own, row in zip(states, rows, strict=True)]
