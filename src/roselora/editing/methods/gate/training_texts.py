"""The texts of a gated neuron edit as tokens, and what an MLP reads in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.forms import asked_texts
from roselora.editing.methods.gate.generated_rephrasings import generated_rephrasings
from roselora.editing.methods.gate.negatives import negative_prompts
from roselora.editing.methods.token_batches import IGNORED, prompt_and_answer
from roselora.editing.request import EditRequest
from roselora.models.activation_hooks import activations
from roselora.models.mlp_neurons import Neurons
from roselora.models.padding import pad_rows, padded_inputs
from roselora.models.prefix_cache import SplitRow
from roselora.models.tokenization import encode

OPENINGS = ("", "Answer the question. ", "I have a question. ", "Yes. ")
"""What each prompt is put after, so that an edit also holds in the middle of a text; in chat both are one turn."""

READ_TOGETHER = 32
"""Rows in one pass; more are not faster on a CPU, because their states leave its cache."""


@dataclass(frozen=True)
class PositiveRows:
    """A request's prompts after each opening in all forms, and generated rephrasings of them, each with the target.

    Attributes:
        rows: of each a prefix and a suffix, which begins at the prompt's last token, which predicts the target's first.
        prompts: how many of the rows, the first ones, are prompts after an opening; the others are rephrasings.
        openings: how many openings there are; behind each stand equally many prompts.
        labels: (rows, longest answer) int64, the token that must follow each of the suffix's, or IGNORED.
    """

    request: EditRequest
    rows: list[SplitRow]
    prompts: int
    openings: int
    labels: Tensor


def positive_rows(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> PositiveRows:
    """The rows on which a request is trained.

    Raises:
        ConfigError: the tokenizer has no end-of-sequence token, or a text has no tokens.
    """
    texts = [opening + prompt for opening in OPENINGS for prompt in request.prompts]
    forms = [asked for text in texts for asked in asked_texts(tokenizer, text, request.form, request.space)]
    prompts = [(asked.text, asked.space) for asked in forms]
    # Rephrasings do not end as the prompts do, so what the user says about the space does not hold for them.
    rephrasings = [(prompt, None) for prompt in generated_rephrasings(request)]
    rows, following = [], []
    for prompt, space in (*prompts, *rephrasings):
        head, answer = prompt_and_answer(tokenizer, prompt, request.target, space)
        rows.append(SplitRow(head[:-1], [head[-1], *answer[:-1]]))
        following.append(answer)
    return PositiveRows(request, rows, len(prompts), len(OPENINGS), pad_rows(following, fill=IGNORED))


def negative_rows(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> list[list[list[int]]]:
    """The ids of a request's negatives in three groups: the same subject, the same relation, and keep-prompts."""
    found = negative_prompts(request)
    groups = (found.related, found.renamed, request.keep)
    return [
        [encode(tokenizer, asked.text) for text in group for asked in asked_texts(tokenizer, text, request.form)]
        for group in groups
    ]


def read_last_tokens(model: PreTrainedModel, neurons: Neurons, rows: Sequence[list[int]]) -> Tensor:
    """What the neurons read at each row's last token, (rows, width) fp32."""
    return torch.stack([states[-1] for states in read_rows(model, neurons, rows)])


def read_rows(model: PreTrainedModel, neurons: Neurons, rows: Sequence[list[int]]) -> list[Tensor]:
    """What the neurons read at each row's tokens, (tokens, width) fp32; no layer above them runs.

    Equal rows are read once, and rows of similar length together, so that there is little padding.
    """
    shortest_first = sorted(set(map(tuple, rows)), key=len)
    found: dict[tuple[int, ...], Tensor] = {}
    for start in range(0, len(shortest_first), READ_TOGETHER):
        batch = shortest_first[start : start + READ_TOGETHER]
        found.update(zip(batch, _read_batch(model, neurons, batch), strict=True))
    return [found[tuple(row)] for row in rows]


def _read_batch(model: PreTrainedModel, neurons: Neurons, rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
    inputs = {name: tensor.to(model.device) for name, tensor in padded_inputs(rows).items()}
    read = activations(model, inputs, [neurons.entrance])[neurons.entrance].input
    states = read.reshape(*inputs["input_ids"].shape, -1).float()
    return [own[: len(row)] for own, row in zip(states, rows, strict=True)]
