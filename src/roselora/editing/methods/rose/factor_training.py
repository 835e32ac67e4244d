"""Train sparse low-rank factors until the greedy answer is the target, and keep the model's predictions elsewhere."""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.factors import FactorPair, factor_pairs
from roselora.editing.methods.margin_training import (
    MARGIN_SLACK,
    OnStep,
    StepLoss,
    Stopped,
    margin_loss,
    train_to_margin,
)
from roselora.editing.methods.rose.contrast_start import contrast_directions, new_places
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.rose.training_rows import TrainingRows
from roselora.editing.methods.token_batches import IGNORED
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, reason_of
from roselora.models.architecture import edited_output
from roselora.models.devices import seeded
from roselora.models.mlp_neurons import weight_matrix
from roselora.models.partial_logits import logits_of
from roselora.models.token_tree import TokenTree

A_STEP = 0.05
"""How far one step moves an entry of A, in units of their standard deviation: A starts well, B at zero."""

STILL_SHARE = 0.1
"""Weight of the change of the layer's output where nothing may change, as a share of the KL divergence's weight."""


@dataclass(frozen=True)
class _Start:
    """How the factors of the layer at a depth start.

    Attributes:
        directions: (rank, inputs), the rows of A up to their size.
        kept: (tokens, inputs), what the layer reads where nothing may change.
        output: the mean square of what it returns there.
        unit: the root mean square of the hidden states that enter the block.
    """

    directions: Tensor
    kept: Tensor
    output: float
    unit: float


def rose_config(settings: EditSettings, targets: Sequence[str]) -> RoseLoraConfig:
    """The RoseLoRA adapter that an edit trains."""
    return RoseLoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT takes any number
        lora_dropout=settings.dropout,
        target_modules=list(targets),
        density=settings.density,
        warmup=settings.warmup,
        ramp=settings.ramp,
        total_steps=settings.max_steps,
        clamp=settings.clamp,
    )


def train_factors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    request: EditRequest,
    settings: EditSettings,
    previous: Sequence[str] = (),
    on_step: OnStep | None = None,
) -> tuple[tuple[FactorPair, ...], Stopped]:
    """Train a RoseLoRA adapter on one request; afterwards the model is as before.

    Training stops as soon as the greedy answer to every prompt of the request is the target, by the margin, and the
    adapter is at its density; or after ``settings.max_steps``.

    Args:
        previous: prompts of previous edits; each step draws some, so that the model's answers to them stay.

    Returns:
        A and B of every adapted matrix, and how training ended.

    Raises:
        ConfigError: the model cannot be adapted with these settings, or a text has no tokens.
        NonFiniteError: the model's logits are not finite.
        UnsupportedError: the model has no list of blocks.
    """
    rows = TrainingRows.of(model, tokenizer, request, settings, previous)
    if settings.target_modules is None:
        block, layer = edited_output(model, settings.depth)
        tree = TokenTree(model, rows.ids, block)
        start = _start(model, layer, tree, rows, settings)
        targets: Sequence[str] = [layer]
    else:
        tree, start, targets = TokenTree(model, rows.ids, 0), None, settings.target_modules
    references = _references(model, tree, rows)
    with adapted_model(model, rose_config(settings, targets), settings.seed) as adapted:
        pairs = tuple(factor_pairs(adapted.get_base_model(), "default"))
        drawn = random.Random(settings.seed)

        def loss() -> StepLoss:
            found = _loss(model, tree, rows, references, settings, drawn)
            if start is None or not settings.keep_weight:
                return found
            (pair,) = pairs
            change = pair.scale * (start.kept @ pair.a.T) @ pair.b.T
            still = STILL_SHARE * settings.keep_weight * change.square().mean() / start.output
            return StepLoss(found.objective + still, found.loss, found.lead)

        (stopped,) = train_to_margin(
            [[parameter for parameter in adapted.parameters() if parameter.requires_grad]],
            lambda _: {0: loss()},
            learning_rate=settings.learning_rate if start is None else _begin(pairs[0], start, settings),
            first_stop=settings.first_stop,
            max_steps=settings.max_steps,
            margin=settings.margin,
            on_step=on_step,
        )
        return pairs, stopped


def _start(model: PreTrainedModel, layer: str, tree: TokenTree, rows: TrainingRows, settings: EditSettings) -> _Start:
    """A's directions, from what the layer reads at the edit's tokens and where nothing may change."""
    module = model.get_submodule(layer)
    read, answers = tree.read(module), len(rows.answers)
    kept_rows, edited_rows = rows.ids[answers:], rows.ids[:answers]
    kept = _at(read[answers:], new_places(kept_rows))
    edited = _at(read[:answers], new_places(edited_rows, kept_rows))
    with seeded(settings.seed, model.device):
        directions = contrast_directions(edited, kept, settings.rank)
    output = (kept @ weight_matrix(module).float().T).square().mean()
    unit = tree.entering.float().square().mean(-1).median().sqrt()
    return _Start(directions, kept, float(output), float(unit))


def _at(read: Sequence[Tensor], places: Sequence[list[int]]) -> Tensor:
    return torch.cat([own[at] for own, at in zip(read, places, strict=True)])


@torch.no_grad()
def _begin(pair: FactorPair, start: _Start, settings: EditSettings) -> float:
    """Set A to its start, in the size in which one rate of Adam suits A and B; returns this rate."""
    spread = float(start.directions.std())
    rate = math.sqrt(A_STEP * spread * settings.learning_rate * start.unit / pair.scale)
    pair.a.copy_(start.directions * (rate / (A_STEP * spread)))
    return rate


@torch.no_grad()
def _references(model: PreTrainedModel, tree: TokenTree, rows: TrainingRows) -> dict[int, Tensor]:
    """Of each row where nothing may change what the model predicts at its labels, log-probabilities in fp32."""
    kept = [row for group in rows.kept for row in group.rows]
    if not kept:
        return {}
    wanted = [states[rows.labels[row] != IGNORED] for row, states in zip(kept, tree.run(kept), strict=True)]
    found = logits_of(model, torch.cat(wanted)).log_softmax(-1)
    return dict(zip(kept, torch.split(found, [len(own) for own in wanted]), strict=True))


def _loss(
    model: PreTrainedModel,
    tree: TokenTree,
    rows: TrainingRows,
    references: dict[int, Tensor],
    settings: EditSettings,
    drawn: random.Random,
) -> StepLoss:
    """The answers' cross-entropy plus ``keep_weight`` times KL(base || model) on texts that must not change.

    An answer's cross-entropy is the sum over its tokens, in the mean over the prompts, and half of it for rephrasings.
    Each group of texts that must not change adds the mean over its own labels.
    """
    groups = [group.some(settings.keep_texts, drawn) for group in rows.kept] if settings.keep_weight else []
    picked = [*rows.answers, *(row for group in groups for row in group)]
    wanted = [rows.labels[row] for row in picked]
    states = [own[labels != IGNORED] for own, labels in zip(tree.run(picked), wanted, strict=True)]
    parts = torch.split(logits_of(model, torch.cat(states)), [len(own) for own in states])
    logits = dict(zip(picked, parts, strict=True))
    enough = settings.margin + MARGIN_SLACK

    def cross_entropy(answers: Sequence[int]) -> tuple[Tensor, float]:
        labels = torch.cat([rows.labels[row][rows.labels[row] != IGNORED] for row in answers])
        loss, lead = margin_loss(torch.cat([logits[row] for row in answers])[None], labels[None], enough)
        return loss * len(labels) / len(answers), lead

    loss, lead = cross_entropy(rows.answers[: rows.prompts])
    objective = loss
    if rephrasings := rows.answers[rows.prompts :]:
        objective = objective + 0.5 * cross_entropy(rephrasings)[0]
    for group in filter(None, groups):
        predicted = torch.cat([logits[row] for row in group]).log_softmax(-1)
        base = torch.cat([references[row] for row in group])
        divergence = functional.kl_div(predicted, base, log_target=True, reduction="batchmean")
        objective = objective + settings.keep_weight * divergence
    return StepLoss(objective, float(loss.detach()), lead)


@contextmanager
def adapted_model(model: PreTrainedModel, config: LoraConfig, seed: int) -> Iterator[PeftModel]:
    """Inside, the model has a fresh adapter, and afterwards it has none; its own weights are never written."""
    requires_grad = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    training = model.training
    with seeded(seed, model.device):
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(f"This model cannot be adapted with these settings ({reason_of(error)}).") from error
        assert isinstance(adapted, PeftModel)
        try:
            adapted.train(config.lora_dropout > 0)
            yield adapted
        finally:
            adapted.unload()
            model.train(training)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(requires_grad[name])
