"""Train what an edit's neurons write, for many requests side by side."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from roselora.editing.methods.adam_steps import adam_steps
from roselora.editing.methods.gate.gate_fitting import Wiring
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.ridge_gate import REWORDED_WEIGHT
from roselora.editing.methods.rose.factor_training import MARGIN_SLACK, answer_loss
from roselora.errors import NonFiniteError
from roselora.models.mlp_neurons import Neurons, adding
from roselora.models.partial_logits import logits_of
from roselora.models.prefix_cache import Tails

STRETCH = 1.5
"""How much longer than the shortest one the longest tail of one pass may be: more passes, but of fewer tokens."""


@dataclass(frozen=True)
class TrainedColumns:
    """What a request's neurons write.

    Attributes:
        columns: (units, width) fp32, added to the MLP's output where a unit's activity is 1.
        steps: optimizer steps taken.
        reached: whether the target leads by the margin after every prompt.
    """

    columns: Tensor
    steps: int
    reached: bool


def train_columns(
    model: PreTrainedModel,
    tails: Tails,
    wirings: Sequence[Wiring],
    settings: GateSettings,
    place: Neurons,
    on_step: Callable[[int, float], None] | None = None,
) -> list[TrainedColumns]:
    """Descend the answers' loss from columns of zeros; a request is left alone as soon as its target leads.

    Rewordings of the prompts are trained on, but not waited for. The requests share the forward and backward passes and
    nothing else.

    Raises:
        NonFiniteError: a loss is NaN or infinite.
    """
    units = [_root_mean_square(tails, wiring.rows) for wiring in wirings]
    lengths = [tails.longest(wiring.rows) for wiring in wirings]
    device = tails.entering.device
    starts = [torch.zeros(len(w.units.up), place.width, dtype=torch.float32, device=device) for w in wirings]
    parameters = [nn.Parameter(start) for start in starts]
    results: dict[int, TrainedColumns] = {}
    live = list(range(len(wirings)))
    for step in adam_steps(parameters, settings.learning_rate):
        losses: dict[int, Tensor] = {}
        for part in _of_like_length(live, lengths):
            rows = [row for number in part for row in wirings[number].rows]
            activity = [wirings[number].activity[:, : lengths[part[-1]]] for number in part]
            written = [units[number] * (own @ parameters[number]) for number, own in zip(part, activity, strict=True)]
            with adding(model, place, tails.placed(torch.cat(written))):
                states = torch.split(tails.run(rows), [len(wirings[number].rows) for number in part])
            for number, own in zip(part, states, strict=True):
                loss, lead = _looked_at(model, wirings[number], own, settings)
                if not math.isfinite(lead):
                    raise NonFiniteError(f"The logits are not finite after {step} steps; load the model in float32.")
                reached = lead >= settings.margin
                if step == settings.max_steps or (reached and step >= settings.min_steps):
                    results[number] = TrainedColumns(units[number] * parameters[number].detach(), step, reached)
                else:
                    losses[number] = loss
        if on_step is not None:
            on_step(step, max((float(loss.detach()) for loss in losses.values()), default=0.0))
        live = sorted(losses)
        if not live:
            break
        torch.autograd.backward(list(losses.values()), inputs=[parameters[number] for number in live])
    return [results[number] for number in range(len(wirings))]


def _looked_at(model: PreTrainedModel, wiring: Wiring, states: Tensor, settings: GateSettings) -> tuple[Tensor, float]:
    """A request's loss, generated_rephrasings with their weight, and by how much its prompts' answer leads."""
    labels, asked = wiring.labels, wiring.asked
    logits = logits_of(model, states[:, : labels.shape[1]], wiring.vocabulary)
    loss, lead = answer_loss(logits[:asked], labels[:asked], settings.margin + MARGIN_SLACK)
    if len(labels) > asked:
        reworded, _ = answer_loss(logits[asked:], labels[asked:], settings.margin + MARGIN_SLACK)
        loss = loss + REWORDED_WEIGHT * reworded
    return loss, lead


def _of_like_length(live: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """The requests in parts, each with tails at most `STRETCH` times as long as its shortest: little is padding."""
    parts: list[list[int]] = []
    for number in sorted(live, key=lambda number: lengths[number]):
        if not parts or lengths[number] > STRETCH * lengths[parts[-1][0]]:
            parts.append([])
        parts[-1].append(number)
    return parts


def _root_mean_square(tails: Tails, rows: range) -> float:
    """Of what enters the block at some rows' tails: the unit in which their columns are trained."""
    own = slice(rows.start, rows.stop)
    return float(tails.entering[own][tails.mask[own, tails.start :]].float().square().mean().sqrt())
