"""Fits, for each answer token that needs one, a gate that detects the edited prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from roselora.editing.forms import asked_texts
from roselora.editing.methods.gate.edited_mlp import EditedMlp, GatedNeurons
from roselora.editing.methods.gate.ridge_gate import GateInputs
from roselora.editing.methods.gate.training_texts import PositiveRows, negative_texts, positive_rows
from roselora.editing.methods.token_batches import IGNORED
from roselora.editing.request import EditRequest
from roselora.models.generation import greedy_activations
from roselora.models.mlp_neurons import own_importance, recorded_inputs
from roselora.models.partial_logits import logits_of
from roselora.models.prefix_cache import PrefixCache

CANDIDATES = 64
"""How many tokens compete with the target's at each position of an answer at first: the likeliest before the edit."""

ANSWERED = 12
"""How many tokens are read of a negative and the model's answer to it, in which a gate must stay closed too."""

RELATED_GROUPS = 2
"""How many groups of negatives, the first ones, are on the subject."""


@dataclass(frozen=True)
class FittedEdit:
    """One request's gates, and what its values are trained on.

    Attributes:
        request: what is edited.
        rows: which of the cache's rows are the request's.
        prompts: how many of these rows, the first ones, are edited prompts; the others are generated rephrasings.
        neurons: k of them, one for each token of an answer that needs one.
        inputs: (rows, longest suffix, width) fp32, what the MLP reads in the suffixes.
        activity: (rows, longest suffix, k), how active they are in the suffixes.
        columns: (k, width), what they write at an activity of 1 beside their values: 0 where these take its place.
        before: (rows, longest suffix, width), what is no longer written in the suffixes.
        nearby: (neurons,), the importance of the MLP's own neurons, as in `ReferenceStatistics`, at the negatives.
        vocabulary: (v,) int64, the tokens that compete, those of the target among them.
        labels: (rows, longest answer) int64, the index in the vocabulary of the token that must follow, or IGNORED.
    """

    request: EditRequest
    rows: range
    prompts: int
    neurons: GatedNeurons
    inputs: Tensor
    activity: Tensor
    columns: Tensor
    before: Tensor
    nearby: Tensor
    vocabulary: Tensor
    labels: Tensor


def fit_gates(mlp: EditedMlp, requests: Sequence[EditRequest]) -> tuple[PrefixCache, list[FittedEdit]]:
    """Fit the gates of all requests, from one pass over their prompts and one over their negatives.

    Raises:
        ConfigError: a text has no tokens.
    """
    positives = [positive_rows(mlp.tokenizer, request) for request in requests]
    cache = PrefixCache.of_rows(mlp.model, mlp.neurons.block, [row for own in positives for row in own.rows])
    with torch.no_grad(), recorded_inputs(mlp.model, mlp.neurons) as read:
        cache.run(range(len(cache.mask)))
    inputs = read[0].reshape(len(cache.mask), -1, mlp.neurons.width)[:, cache.start - cache.begin :].float()
    fitted, start = [], 0
    for own, negatives in zip(positives, _negatives(mlp, requests), strict=True):
        rows = slice(start, start + len(own.rows))
        states = _RowStates(inputs[rows], cache.states[rows])
        fitted.append(_fit_request(mlp, own, range(rows.start, rows.stop), states, negatives))
        start = rows.stop
    return cache, fitted


@dataclass(frozen=True)
class _Negatives:
    """What the MLP reads at one request's negatives, each (tokens, width) fp32.

    Attributes:
        last: at their last tokens, by group.
        answers: at the tokens of the model's answers to them.
    """

    last: list[Tensor]
    answers: Tensor


def tokens_read(negatives: Sequence[Sequence[str]], forms: int) -> list[int]:
    """How many tokens are read at most of each of a request's negatives, given by group: its last, and its answer's.

    Those about other subjects come nearest to the edit; of those on the subject few answers are read, one more apart
    than there are ``forms``, which take turns, so that they are of all forms.
    """
    return [
        1 if place < RELATED_GROUPS and number % (forms + 1) else ANSWERED
        for place, group in enumerate(negatives)
        for number in range(len(group))
    ]


def _negatives(mlp: EditedMlp, requests: Sequence[EditRequest]) -> list[_Negatives]:
    groups = [negative_texts(mlp.model, mlp.tokenizer, request) for request in requests]
    texts = [text for own in groups for group in own for text in group]
    forms = [len(asked_texts(mlp.tokenizer, request.prompt, request.form)) for request in requests]
    limits = [limit for own, number in zip(groups, forms, strict=True) for limit in tokens_read(own, number)]
    read = iter(greedy_activations(mlp.model, mlp.tokenizer, texts, mlp.neurons, limits))
    found = []
    for own in groups:
        states = [[next(read) for _ in group] for group in own]
        last = [torch.stack([each[0] for each in group]) for group in states if group]
        answers = [each[1:] for group in states for each in group]
        nothing = torch.empty(0, mlp.neurons.width, dtype=torch.float32, device=mlp.model.device)
        found.append(_Negatives(last, torch.cat([nothing, *answers])))
    return found


@dataclass(frozen=True)
class _RowStates:
    """What one request's rows gave in the first pass.

    Attributes:
        inputs: (rows, longest suffix, width) fp32, what the MLP reads in the suffixes.
        final: (rows, longest suffix, width), what the model's body gives out there.
    """

    inputs: Tensor
    final: Tensor


def _fit_request(
    mlp: EditedMlp, positives: PositiveRows, rows: range, states: _RowStates, negatives: _Negatives
) -> FittedEdit:
    """Fit one request's gates.

    Args:
        rows: which of the cache's rows are the request's.
    """
    settings, prompts = mlp.settings, positives.prompts
    labels = positives.labels.to(states.inputs.device, copy=True)
    row, position = (labels != IGNORED).nonzero(as_tuple=True)  # of each answer token, (tokens,)
    wanted, inputs = labels[row, position], states.inputs[row, position]
    logits = logits_of(mlp.model, states.final[row, position])  # (tokens, whole vocabulary)
    likeliest = logits.topk(min(CANDIDATES, logits.shape[1])).indices
    vocabulary = torch.unique(torch.cat([likeliest.flatten(), wanted]))
    places = _answer_places(positives.labels).to(row.device)[row, position]
    target, asked = wanted[:, None], row < prompts
    # Where the user says what stands before a prompt's answer, those of its rephrasings may begin with a token that no
    # prompt's answer has there: it gets no gate, and the others' neurons cannot write it.
    gated = torch.isin(places, places[asked])
    labels[row, position] = torch.searchsorted(vocabulary, wanted).where(gated, IGNORED)

    lead = logits.gather(1, target)[:, 0] - logits.scatter(1, target, -torch.inf).amax(1)
    trailing = torch.unique(places[asked & (lead < settings.margin)]).tolist()
    inputs_of_gates = [
        GateInputs(
            prompts=inputs[asked & (places == place)],
            rephrasings=inputs[~asked & (places == place)],
            # At a first token in another form the gate may be open or not.
            background=inputs[(places != place) & (position > 0)],
            negatives=negatives.last,
            answers=negatives.answers,
            other_edits=mlp.other_edits.excluding(positives.request),
        )
        # An answer that leads everywhere gets one gate, for later edits may take its lead.
        for place in trailing or [int(places[asked].min())]
    ]
    neurons = mlp.fitted(inputs_of_gates)
    nearby = own_importance(mlp.model, mlp.neurons, torch.cat([*negatives.last, negatives.answers, inputs]))
    return FittedEdit(
        positives.request,
        rows=rows,
        prompts=prompts,
        neurons=neurons,
        inputs=states.inputs,
        activity=neurons.activity(mlp.neurons, states.inputs),
        columns=torch.zeros_like(neurons.up),
        before=torch.zeros_like(states.inputs),
        nearby=nearby,
        vocabulary=vocabulary,
        labels=labels,
    )


def _answer_places(labels: Tensor) -> Tensor:
    """Which gate opens where each token of the answers is predicted, (rows, longest answer) int64.

    An answer can have other tokens in one form than in another, most often at its beginning: behind a bare prompt it
    begins with a space. Tokens that are equal, and equally far from the end, share a gate.
    """
    left = (labels != IGNORED).flip(1).cumsum(1).flip(1)  # tokens from here to the end
    pairs = torch.stack([-left, labels], -1).flatten(0, 1)  # the first tokens come first
    places: Tensor = torch.unique(pairs, dim=0, return_inverse=True)[1]
    return places.reshape(labels.shape)
