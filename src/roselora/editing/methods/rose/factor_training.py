"""The paper's own procedure: random factors of named modules in all blocks, trained and pruned as an adapter."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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
    TokenBatch,
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
from roselora.models.inference import eval_mode, known_arguments
from roselora.models.partial_logits import logits_of
from roselora.models.tokenization import encode

KEPT_TOKENS = 16
"""How many tokens of a prompt's continuation must not change: as many as locality compares."""

PREVIOUS_PROMPTS = 16
"""How many prompts of previous edits one edit must not change, drawn at random, so that its cost does not grow."""

NEUTRAL_ROWS = 8
"""How many neutral texts must not change; every one of their tokens counts."""

UNNAMED_RATE = 0.05
"""Adam's rate on the factors of modules that the settings do not name, as a share of that on an edit's values."""


def rose_config(settings: EditSettings, targets: str | Sequence[str]) -> RoseLoraConfig:
    """The RoseLoRA adapter that an edit trains."""
    return RoseLoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT takes any number
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
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
    adapter is at its density; or after ``settings.max_steps``. Where the settings name no modules, they are those that
    `edit_targets` chooses.

    Args:
        previous: prompts of previous edits, whose answers must stay, as far as `PREVIOUS_PROMPTS` goes.

    Returns:
        A and B of every adapted matrix, and how training ended.

    Raises:
        ConfigError: the model cannot be adapted with these settings, or a text has no tokens.
        NonFiniteError: the model's logits are not finite.
    """
    named = settings.target_modules
    answers = token_batch(answer_rows(tokenizer, request), model.device)
    kept = _kept(model, tokenizer, request, settings, previous) if settings.keep_weight else []
    with torch.no_grad(), eval_mode(model):
        base = [_logits(model, batch).log_softmax(-1) for batch in kept]
    with adapted_model(model, rose_config(settings, named or edit_targets(model)), settings.seed) as adapted:

        def loss() -> StepLoss:
            labels = answers.labels[answers.labels != IGNORED]
            enough = settings.margin + MARGIN_SLACK
            objective, lead = margin_loss(_logits(model, answers)[None], labels[None], enough)
            objective = objective * len(labels) / len(answers.labels)  # the sum over an answer's tokens
            reported = float(objective.detach())
            for batch, before in zip(kept, base, strict=True):
                after = _logits(model, batch).log_softmax(-1)
                divergence = functional.kl_div(after, before, log_target=True, reduction="batchmean")
                objective = objective + settings.keep_weight * divergence
            return StepLoss(objective, reported, lead)

        (stopped,) = train_to_margin(
            [[parameter for parameter in adapted.parameters() if parameter.requires_grad]],
            lambda _: {0: loss()},
            learning_rate=settings.learning_rate * (1 if named else UNNAMED_RATE),
            first_stop=settings.first_stop,
            max_steps=settings.max_steps,
            margin=settings.margin,
            on_step=on_step,
        )
        return tuple(factor_pairs(adapted.get_base_model(), "default")), stopped


def _kept(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    request: EditRequest,
    settings: EditSettings,
    previous: Sequence[str],
) -> list[TokenBatch]:
    """Where nothing may change: keep-prompts and prompts of previous edits with their answers; and neutral texts."""
    others = [prompt for prompt in previous if prompt not in request.prompts]  # of the same prompt the newer edit wins
    others = random.Random(settings.seed).sample(others, min(PREVIOUS_PROMPTS, len(others)))
    prompts = [asked.text for prompt in request.keep for asked in asked_texts(tokenizer, prompt, request.form)] + others
    answers = greedy_tokens(model, tokenizer, prompts, max_new_tokens=KEPT_TOKENS)
    pairs = zip(prompts, answers, strict=True)
    kinds = (
        [continuation_row(encode(tokenizer, prompt), ids) for prompt, ids in pairs],
        [text_row(encode(tokenizer, text)) for text in NEUTRAL_TEXTS[:NEUTRAL_ROWS]],
    )
    return [token_batch(rows, model.device) for rows in kinds if rows]


def _logits(model: PreTrainedModel, batch: TokenBatch) -> Tensor:
    """The logits at the labelled positions, (labels, vocabulary) fp32."""
    body: Any = model.base_model
    given = known_arguments(body, attention_mask=batch.attention_mask, use_cache=False)
    states: Tensor = body(input_ids=batch.input_ids, **given)[0]
    return logits_of(model, states[batch.labels != IGNORED])


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
