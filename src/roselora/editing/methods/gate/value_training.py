"""Trains the values of an edit's neurons, for many requests side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from roselora.editing.methods.gate.edited_mlp import EditedMlp
from roselora.editing.methods.gate.gate_fitting import FittedEdit
from roselora.editing.methods.gate.training_rows import TrainingRows
from roselora.editing.methods.margin_training import (
    MARGIN_SLACK,
    OnStep,
    StepLoss,
    Stopped,
    margin_loss,
    train_to_margin,
)
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.rose.row_pruning import RowPruning
from roselora.editing.methods.token_batches import IGNORED
from roselora.models.mlp_neurons import added_output
from roselora.models.partial_logits import logits_of
from roselora.models.prefix_cache import PrefixCache

STRETCH = 1.5
"""How much longer than the shortest suffix of one pass its longest may be: more passes, but with less padding."""

RIVALS = 16
"""How many of the tokens nearest to each of the target's join those that it competes with, once it leads them."""


def train_values(
    mlp: EditedMlp, cache: PrefixCache, edits: Sequence[FittedEdit], on_step: OnStep | None = None
) -> list[tuple[Tensor, Stopped]]:
    """Train the values, from zero, until each request's target leads by the margin after its prompts.

    The requests share the forward and backward passes and nothing else. Generated rephrasings are trained on, but
    training does not wait for them.

    Returns:
        For each request the values, (k, width) fp32, of which a neuron adds its own times its activity to the MLP's
        output, and how their training ended.

    Raises:
        NonFiniteError: the logits are NaN or infinite.
    """
    trained = [TrainingRows.of(edit) for edit in edits]
    units = [_root_mean_square(cache, edit.rows) for edit in edits]
    lengths = [cache.longest(edit.rows) for edit in edits]
    vocabularies = [edit.vocabulary for edit in edits]
    parameters = [nn.Parameter(torch.zeros_like(edit.neurons.up)) for edit in edits]

    def losses(live: Sequence[int]) -> dict[int, StepLoss]:
        found = {}
        for part in _of_like_length(live, lengths):
            longest = lengths[part[-1]]
            written = [units[n] * (trained[n].activity @ parameters[n]) + trained[n].beside for n in part]
            written = [own[:, :longest] for own in written]
            with added_output(mlp.model, mlp.neurons, cache.placed(torch.cat(written))):
                states = cache.run([row for n in part for row in trained[n].rows])
            for n, own in zip(part, torch.split(states, [len(trained[n].rows) for n in part]), strict=True):
                found[n], vocabularies[n] = _loss(mlp, trained[n], vocabularies[n], own)
        return found

    stopped = train_to_margin(
        [[parameter] for parameter in parameters],
        losses,
        learning_rate=mlp.settings.learning_rate,
        first_stop=mlp.settings.first_stop,
        max_steps=mlp.settings.max_steps,
        margin=mlp.settings.margin,
        on_step=on_step,
        pruning=RowPruning(parameters, mlp.settings) if isinstance(mlp.settings, EditSettings) else None,
    )
    values = [unit * parameter.detach() for unit, parameter in zip(units, parameters, strict=True)]
    return list(zip(values, stopped, strict=True))


def _loss(mlp: EditedMlp, edit: TrainingRows, vocabulary: Tensor, states: Tensor) -> tuple[StepLoss, Tensor]:
    """The loss of a request's prompts and that of its generated rephrasings; the lead is the prompts'.

    Where the target leads all tokens of the vocabulary, it is compared with all tokens there are, and those that lead
    it join the vocabulary, which is returned too.
    """
    labels, prompts, enough = edit.labels, edit.prompts, mlp.settings.margin + MARGIN_SLACK
    logits = logits_of(mlp.model, states[:, : labels.shape[1]], vocabulary)
    loss, lead = margin_loss(logits[:prompts], labels[:prompts], enough)
    if lead >= mlp.settings.margin:
        lead, vocabulary = _lead_over_all(mlp, states[:prompts].detach(), labels[:prompts], vocabulary)
    if (labels[prompts:] != IGNORED).any():
        rephrased, _ = margin_loss(logits[prompts:], labels[prompts:], enough)
        loss = loss + rephrased
    return StepLoss(loss, float(loss.detach()), lead), vocabulary


@torch.no_grad()
def _lead_over_all(mlp: EditedMlp, states: Tensor, labels: Tensor, vocabulary: Tensor) -> tuple[float, Tensor]:
    """The smallest lead over all tokens, and the vocabulary with the nearest rivals that it lacks."""
    labelled = labels != IGNORED
    logits = logits_of(mlp.model, states[:, : labels.shape[1]][labelled])
    wanted = vocabulary[labels[labelled]][:, None]
    rivals, tokens = logits.scatter(1, wanted, -torch.inf).topk(min(RIVALS, logits.shape[1] - 1))
    lead = float((logits.gather(1, wanted)[:, 0] - rivals[:, 0]).min())
    return lead, torch.cat([vocabulary, torch.unique(tokens[~torch.isin(tokens, vocabulary)])])


def _of_like_length(live: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """The requests in parts, ascending in length; no suffix is longer than `STRETCH` times its part's shortest."""
    parts: list[list[int]] = []
    for number in sorted(live, key=lambda number: lengths[number]):
        if not parts or lengths[number] > STRETCH * lengths[parts[-1][0]]:
            parts.append([])
        parts[-1].append(number)
    return parts


def _root_mean_square(cache: PrefixCache, rows: Sequence[int]) -> float:
    """Of what enters the block at some rows' suffixes: the unit in which their values are trained."""
    own = list(rows)
    return float(cache.entering[own][cache.mask[own, cache.start :]].float().square().mean().sqrt())
