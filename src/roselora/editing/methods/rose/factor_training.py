"""Train a low-rank adapter until the greedy answer is the target, and keep its predictions elsewhere."""

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
from roselora.editing.forms import asked_texts
from roselora.editing.methods.margin_training import (
    MARGIN_SLACK,
    OnStep,
    StepLoss,
    Stopped,
    margin_loss,
    train_to_margin,
)
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.token_batches import (
    IGNORED,
    LabelledRow,
    answer_rows,
    continuation_row,
    text_row,
    token_batch,
)
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, reason_of
from roselora.models.architecture import edit_targets
from roselora.models.devices import seeded
from roselora.models.generation import greedy_tokens
from roselora.models.tokenization import encode

KEPT_TOKENS = 16
"""How many tokens of a keep-prompt's continuation must not change: as many as locality compares."""

PREVIOUS_PROMPTS = 16
"""How many prompts of previous edits one edit must not change, drawn at random, so that its cost does not grow."""


def rose_config(settings: EditSettings, model: PreTrainedModel) -> RoseLoraConfig:
    """The RoseLoRA adapter that an edit of ``model`` trains."""
    return RoseLoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT takes any number
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules) if settings.target_modules else edit_targets(model),
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
    """
    texts = _TrainingTexts(model, tokenizer, request, settings, previous)
    with adapted_model(model, rose_config(settings, model), settings.seed) as adapted:
        (stopped,) = train_to_margin(
            [[parameter for parameter in adapted.parameters() if parameter.requires_grad]],
            lambda _: {0: texts.loss(adapted)},
            learning_rate=settings.learning_rate,
            first_stop=settings.first_stop,
            max_steps=settings.max_steps,
            margin=settings.margin,
            on_step=on_step,
        )
        return tuple(factor_pairs(adapted.get_base_model(), "default")), stopped


@dataclass(frozen=True)
class _ReferenceRow:
    """A text on which the model must not change.

    Attributes:
        row: the text, with labels where the predictions count.
        log_probabilities: (labelled positions, vocabulary) fp32, what the base model predicts there.
    """

    row: LabelledRow
    log_probabilities: Tensor


class _TrainingTexts:
    """The texts of one edit: its prompts with the target, and texts on which the model must not change."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        request: EditRequest,
        settings: EditSettings,
        previous: Sequence[str],
    ) -> None:
        self._settings = settings
        self._device = next(model.parameters()).device
        self._random = random.Random(settings.seed)
        self._answers = answer_rows(tokenizer, request)
        self._keep: list[_ReferenceRow] = []
        self._previous: list[_ReferenceRow] = []
        self._neutral: list[_ReferenceRow] = []
        others = [prompt for prompt in previous if prompt not in request.prompts]  # of the same prompt the newer wins
        others = self._random.sample(others, min(PREVIOUS_PROMPTS, len(others)))
        if settings.keep_weight:
            keep = [asked.text for prompt in request.keep for asked in asked_texts(tokenizer, prompt, request.form)]
            prompts = [*keep, *others]
            generated = greedy_tokens(model, tokenizer, prompts, max_new_tokens=KEPT_TOKENS)
            rows = [
                continuation_row(encode(tokenizer, prompt), ids) for prompt, ids in zip(prompts, generated, strict=True)
            ]
            rows += [text_row(encode(tokenizer, text)) for text in NEUTRAL_TEXTS]
            references = self._references(model, rows)
            self._keep = references[: len(keep)]
            self._previous = references[len(keep) : len(prompts)]
            self._neutral = references[len(prompts) :]

    @torch.no_grad()
    def _references(self, model: PreTrainedModel, rows: Sequence[LabelledRow]) -> list[_ReferenceRow]:
        """The rows with what the model, which has no adapter yet, predicts in them."""
        batch = token_batch(rows, self._device)
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        return [
            _ReferenceRow(row, own[labels != IGNORED].float().log_softmax(-1))
            for row, own, labels in zip(rows, logits, batch.labels, strict=True)
        ]

    def loss(self, model: PeftModel) -> StepLoss:
        """The answers' cross-entropy plus ``keep_weight`` times KL(base || model) on texts that must not change.

        There are two groups of such texts, continuations of prompts and neutral texts. Each group's divergence is a
        mean over its own positions.
        """
        settings = self._settings
        groups = [[*self._keep, *self._some(self._previous)], self._some(self._neutral)]
        groups = [group for group in groups if group]
        rows = [*self._answers, *(reference.row for group in groups for reference in group)]
        batch = token_batch(rows, self._device)
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        end = len(self._answers)
        loss, lead = margin_loss(logits[:end], batch.labels[:end], settings.margin + MARGIN_SLACK)
        divergence = torch.zeros((), device=self._device)
        for group in groups:
            start, end = end, end + len(group)
            predicted = logits[start:end][batch.labels[start:end] != IGNORED].float().log_softmax(-1)
            base = torch.cat([reference.log_probabilities for reference in group])
            divergence = divergence + functional.kl_div(predicted, base, log_target=True, reduction="batchmean")
        return StepLoss(loss + settings.keep_weight * divergence, float(loss.detach()), lead)

    def _some(self, pool: Sequence[_ReferenceRow]) -> list[_ReferenceRow]:
        return self._random.sample(pool, min(self._settings.keep_texts, len(pool)))


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
