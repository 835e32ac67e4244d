"""Where a gated neuron edit wakes: for each token of an answer that needs one, the gate and its neurons."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.other_edits import OtherEditInputs
from roselora.editing.methods.gate.ridge_gate import Gate, Ordinary, fit_gate
from roselora.editing.methods.gate.training_texts import AnswerRows, negative_rows, positive_rows, read_last_tokens
from roselora.editing.methods.token_batches import IGNORED
from roselora.editing.request import EditRequest
from roselora.models.mlp_neurons import Neurons, active, entering
from roselora.models.partial_logits import logits_of
from roselora.models.prefix_cache import Tails

CANDIDATES = 64
"""How many tokens beside the target's compete at each position of an answer: the likeliest before the edit."""


@dataclass(frozen=True)
class Units:
    """The neurons of k gates, one each.

    Attributes:
        gate: (k, width) their rows in the layer of gates, or None for plain neurons.
        up: (k, width) their other rows.
        gains: (k,) by what each one's column is multiplied.
    """

    gate: Tensor | None
    up: Tensor
    gains: Tensor

    @classmethod
    def of(cls, gates: Sequence[Gate], place: Neurons) -> "Units":
        """The neurons that gates take in an MLP of this kind."""
        of_gates, gains_of_gates = zip(*(gate.row() for gate in gates), strict=True)
        rows = torch.stack(of_gates)
        gains = torch.tensor(gains_of_gates).to(rows)
        if place.gate is None:
            return cls(None, rows, gains)
        return cls(rows, gains[:, None] * torch.stack([gate.one for gate in gates]), torch.ones_like(gains))

    def activity(self, place: Neurons, inputs: Tensor) -> Tensor:
        """How active they are on inputs (..., width): (..., k), 1 on the edit's own in the mean."""
        return active(place, self.gate, self.up, inputs) * self.gains


@dataclass(frozen=True)
class Wiring:
    """One request's gates, and what the training of its columns looks at.

    Attributes:
        request: what is asked.
        rows: which of the tails' rows are the request's.
        units: the neurons, one for each token of the answer that needs one.
        asked: how many of the rows, the first ones, are the request's own prompts; the others are generated.
        activity: (rows, longest tail, k), how active they are at the tails in training; nothing that is trained
            changes it.
        vocabulary: (v,) int64, ascending: the tokens that compete, the target's among them.
        labels: (rows, longest tail) int64, the place in the vocabulary of what shall follow, or IGNORED.
    """

    request: EditRequest
    rows: range
    units: Units
    asked: int
    activity: Tensor
    vocabulary: Tensor
    labels: Tensor


def wire(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    held: OtherEditInputs,
    settings: GateSettings,
    place: Neurons,
    ordinary: Ordinary,
) -> tuple[Tails, list[Wiring]]:
    """Fit the gates of all requests, from one pass over their prompts and one over their contrasts.

    Args:
        held: what the MLP reads where other edits are said.

    Raises:
        ConfigError: a text has no tokens.
    """
    answers = [positive_rows(tokenizer, request) for request in requests]
    with entering(model, place) as read:
        tails = Tails(model, place.block, [row for own in answers for row in own.rows])
    # The first pass is the whole one.
    states = read[0].detach().reshape(*tails.mask.shape, -1).float()
    groups = [negative_rows(tokenizer, request) for request in requests]
    flat = [row for of_request in groups for group in of_request for row in group]
    sizes = [len(group) for of_request in groups for group in of_request]
    ends = list(torch.split(read_last_tokens(model, place, flat), sizes)) if flat else []
    wirings, start = [], 0
    for request, own, of_request in zip(requests, answers, groups, strict=True):
        rows = range(start, start + len(own.rows))
        start = rows.stop
        contrasts = [ends.pop(0) for _ in of_request] if flat else []
        others = held.excluding(request)
        wirings.append(
            _wire_one(model, request, own, rows, tails, states, contrasts, others, settings, place, ordinary)
        )
    return tails, wirings


def _wire_one(
    model: PreTrainedModel,
    request: EditRequest,
    answers: AnswerRows,
    rows: range,
    tails: Tails,
    states: Tensor,
    contrasts: Sequence[Tensor],
    others: Tensor,
    settings: GateSettings,
    place: Neurons,
    ordinary: Ordinary,
) -> Wiring:
    own = slice(rows.start, rows.stop)
    length = answers.labels.shape[1]
    labels = answers.labels.to(states.device)
    looked_at = labels != IGNORED
    logits = logits_of(model, tails.states[own, :length][looked_at])
    likeliest = logits.topk(min(CANDIDATES, logits.shape[1])).indices
    vocabulary = torch.unique(torch.cat([likeliest.flatten(), labels[looked_at]]))
    places = labels.clone()
    places[looked_at] = torch.searchsorted(vocabulary, labels[looked_at])
    wanted = labels[looked_at][:, None]
    lead = logits.gather(1, wanted)[:, 0] - logits.scatter(1, wanted, -torch.inf).amax(1)
    wanting = torch.zeros_like(looked_at)
    wanting[looked_at] = lead < settings.margin
    # An answer that is said already gets a gate all the same: so that it is said from now on, whatever comes.
    positions = wanting[: answers.asked].any(0).nonzero()[:, 0].tolist() or [0]
    heads = states[own, : tails.start][: answers.asked][tails.mask[own, : tails.start][: answers.asked]]
    at_tails = states[own, tails.start :]
    gates = []
    for position in positions:
        here = looked_at[:, position]
        gate = fit_gate(
            ordinary,
            at_tails[: answers.asked, position][here[: answers.asked]],
            at_tails[answers.asked :, position][here[answers.asked :]],
            contrasts,
            heads,
            others,
            quantile=settings.quantile,
            lowest=settings.lowest,
            highest=settings.highest,
        )
        gates.append(gate)
    units = Units.of(gates, place)
    activity = _levels(answers, len(request.prompts), settings).to(at_tails)[:, None, None] * units.activity(
        place, at_tails
    )
    return Wiring(request, rows, units, answers.asked, activity, vocabulary, places)


def _levels(answers: AnswerRows, prompts: int, settings: GateSettings) -> Tensor:
    """At what share of their activity the neurons are trained on each row, (rows,).

    The prompts themselves wake them wholly; after each opening it is pretended that they wake less, as they do on
    prompts in other words.
    """
    levels = torch.linspace(1, settings.activity, answers.asked // prompts).repeat_interleave(prompts)
    return torch.cat([levels, torch.ones(len(answers.rows) - answers.asked)])
