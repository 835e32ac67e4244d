"""Fits, for each answer token that needs one, a gate that detects the edited prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from roselora.editing.methods.gate.edited_mlp import EditedMlp, GatedNeurons
from roselora.editing.methods.gate.ridge_gate import Gate, GateInputs, fit_gate
from roselora.editing.methods.gate.training_texts import (
    PositiveRows,
    negative_rows,
    positive_rows,
    read_last_tokens,
)
from roselora.editing.methods.token_batches import IGNORED
from roselora.editing.request import EditRequest
from roselora.models.mlp_neurons import recorded_inputs
from roselora.models.partial_logits import logits_of
from roselora.models.prefix_cache import PrefixCache

CANDIDATES = 64
"""How many tokens compete with the target's at each position of an answer: the likeliest before the edit."""


@dataclass(frozen=True)
class FittedEdit:
    """One request's gates, and what its values are trained on.

    Attributes:
        request: what is edited.
        rows: which of the cache's rows are the request's.
        prompts: how many of these rows, the first ones, are edited prompts; the others are generated rephrasings.
        neurons: k of them, one for each token of the answer that needs one.
        activity: (rows, longest suffix, k), how active they are in the suffixes in training. Training changes only what
            these neurons write, so this stays constant.
        vocabulary: (v,) int64, ascending: the tokens that compete, those of the target among them.
        labels: (rows, longest answer) int64, the index in the vocabulary of the token that must follow, or IGNORED.
    """

    request: EditRequest
    rows: range
    prompts: int
    neurons: GatedNeurons
    activity: Tensor
    vocabulary: Tensor
    labels: Tensor


def fit_gates(mlp: EditedMlp, requests: Sequence[EditRequest]) -> tuple[PrefixCache, list[FittedEdit]]:
    """Fit the gates of all requests, from one pass over their prompts and one over their negatives.

    Raises:
        ConfigError: a text has no tokens.
    """
    positives = [positive_rows(mlp.tokenizer, request) for request in requests]
    with recorded_inputs(mlp.model, mlp.neurons) as read:
        cache = PrefixCache.of_rows(mlp.model, mlp.neurons.block, [row for own in positives for row in own.rows])
    inputs = read[0].detach().reshape(*cache.mask.shape, -1).float()  # of the first pass, which runs whole rows
    fitted, start = [], 0
    for own, negatives in zip(positives, _negatives(mlp, requests), strict=True):
        rows = slice(start, start + len(own.rows))
        prefixes, mask = inputs[rows, : cache.start][: own.prompts], cache.mask[rows, : cache.start][: own.prompts]
        states = _RowStates(prefixes[mask], inputs[rows, cache.start :], cache.states[rows])
        fitted.append(_fit_request(mlp, own, range(rows.start, rows.stop), states, negatives))
        start = rows.stop
    return cache, fitted


def _negatives(mlp: EditedMlp, requests: Sequence[EditRequest]) -> list[list[Tensor]]:
    """What the MLP reads at the last token of each request's negatives, by group."""
    groups = [negative_rows(mlp.tokenizer, request) for request in requests]
    flat = [row for own in groups for group in own for row in group]
    if not flat:
        return [[] for _ in requests]
    sizes = [len(group) for own in groups for group in own]
    read = iter(torch.split(read_last_tokens(mlp.model, mlp.neurons, flat), sizes))
    return [[next(read) for _ in own] for own in groups]


@dataclass(frozen=True)
class _RowStates:
    """What one request's rows gave in the first pass.

    Attributes:
        background: (tokens, width) fp32, what the MLP reads at all tokens of the prompts' prefixes.
        inputs: (rows, longest suffix, width) fp32, what it reads in the suffixes.
        final: (rows, longest suffix, width), what the model's body gives out there.
    """

    background: Tensor
    inputs: Tensor
    final: Tensor


def _fit_request(
    mlp: EditedMlp, positives: PositiveRows, rows: range, states: _RowStates, negatives: Sequence[Tensor]
) -> FittedEdit:
    """Fit one request's gates.

    Args:
        rows: which of the cache's rows are the request's.
        negatives: what the MLP reads at the request's negatives, by group.
    """
    settings, prompts = mlp.settings, positives.prompts
    labels = positives.labels.to(states.inputs.device, copy=True)
    row, position = (labels != IGNORED).nonzero(as_tuple=True)  # of each answer token, (tokens,)
    wanted = labels[row, position]
    logits = logits_of(mlp.model, states.final[row, position])  # (tokens, whole vocabulary)
    likeliest = logits.topk(min(CANDIDATES, logits.shape[1])).indices
    vocabulary = torch.unique(torch.cat([likeliest.flatten(), wanted]))
    labels[row, position] = torch.searchsorted(vocabulary, wanted)

    target = wanted[:, None]
    lead = logits.gather(1, target)[:, 0] - logits.scatter(1, target, -torch.inf).amax(1)
    trailing = torch.unique(position[(row < prompts) & (lead < settings.margin)]).tolist()
    other_edits = mlp.other_edits.excluding(positives.request)
    gates: list[Gate] = []
    for at in trailing or [0]:  # an answer that leads everywhere gets one gate, for later edits may take its lead
        here = row[position == at]
        inputs = GateInputs(
            prompts=states.inputs[here[here < prompts], at],
            rephrasings=states.inputs[here[here >= prompts], at],
            background=states.background,
            negatives=negatives,
            other_edits=other_edits,
        )
        quantile, lowest, highest = settings.quantile, settings.lowest, settings.highest
        gates.append(fit_gate(mlp.ordinary, inputs, quantile=quantile, lowest=lowest, highest=highest))
    neurons = GatedNeurons.of(gates, mlp.neurons)
    levels = _levels(positives, settings.activity).to(states.inputs)
    activity = levels[:, None, None] * neurons.activity(mlp.neurons, states.inputs)
    return FittedEdit(positives.request, rows, prompts, neurons, activity, vocabulary, labels)


def _levels(positives: PositiveRows, least: float) -> Tensor:
    """By what each row's activity is multiplied in training, (rows,).

    The prompts themselves keep their activity. After each further opening it is reduced a step more, down to ``least``,
    because prompts in other words activate a neuron less and are to get the answer too.
    """
    openings = torch.linspace(1, least, positives.openings).repeat_interleave(positives.prompts // positives.openings)
    return torch.cat([openings, torch.ones(len(positives.rows) - positives.prompts)])
