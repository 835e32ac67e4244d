"""Train a low-rank adapter until the greedy answer is the target, holding the model still elsewhere."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.factors import FactorPair, factor_pairs
from roselora.editing.methods.adam_steps import adam_steps
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.editing.methods.rose.factor_scores import Score, backward_scored, locality_aware
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.token_batches import (
    IGNORED,
    TokenBatch,
    answer_batch,
    concatenate,
    continuation_batch,
    text_batch,
)
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, reason_of
from roselora.models.architecture import edit_targets
from roselora.models.devices import seeded
from roselora.models.generation import greedy_tokens
from roselora.models.tokenization import encode

KEPT_TOKENS = 16
"""How far the continuation of a keep-prompt is held still: as far as locality looks."""


HELD_PROMPTS = 16
"""How many prompts of earlier edits one edit looks after, chosen at random, so that its cost does not grow."""

MARGIN_SLACK = 0.5
"""How far beyond the margin, in nats, an answer is pushed, so that pruning does not at once undo it."""


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


@dataclass(frozen=True)
class TrainedFactors:
    """The factors that an edit has trained, taken out of the model.

    Attributes:
        pairs: A and B of every adapted matrix.
        steps: optimizer steps taken.
        reached: whether every prompt of the request gives the target, by the margin.
    """

    pairs: tuple[FactorPair, ...]
    steps: int
    reached: bool


def train_factors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    request: EditRequest,
    settings: EditSettings,
    config: LoraConfig,
    held: Sequence[str] = (),
    on_step: Callable[[int, float], None] | None = None,
    score: Score | None = None,
) -> TrainedFactors:
    """Train the adapter of ``config`` on one request; the model is given back as it was.

    Training stops as soon as the greedy answer to every prompt of the request is the target, by the margin, and
    a RoseLoRA adapter is at its density; or after ``settings.max_steps``. It may be any LoRA adapter, so that
    others can be compared under the same loop. ``held`` are the prompts of earlier edits: each step looks at some,
    so that what the model says to them stays. ``score`` tells which entries of a RoseLoRA adapter are kept, by default
    as ``settings.retention`` says.
    """
    first_stop = settings.first_stop if isinstance(config, RoseLoraConfig) else 0
    if score is None and settings.retention:
        score = locality_aware(settings.retention)
    if not isinstance(config, RoseLoraConfig):
        score = None
    data = _EditData(model, tokenizer, request, settings, held, look_elsewhere=score is not None)
    with adapted_model(model, config, settings.seed) as adapted:
        parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        for step in adam_steps(parameters, settings.learning_rate):
            edit_loss, keep_loss, margin = data.losses(adapted)
            if on_step is not None:
                on_step(step, float(edit_loss.detach()))
            reached = margin >= settings.margin
            if step == settings.max_steps or (reached and step >= first_stop):
                break
            if score is None:
                torch.autograd.backward(edit_loss + settings.keep_weight * keep_loss)
            else:
                backward_scored(adapted, edit_loss, keep_loss, settings.keep_weight, score)
        return TrainedFactors(tuple(factor_pairs(adapted.get_base_model(), "default")), step, reached)


class _EditData:
    """The rows of one edit's batches, with the base model's predictions where it must not move."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        request: EditRequest,
        settings: EditSettings,
        held: Sequence[str],
        look_elsewhere: bool,
    ) -> None:
        self.device = next(model.parameters()).device
        self.random = random.Random(settings.seed)
        self.answers = answer_batch(tokenizer, request, request.prompts)
        others = [prompt for prompt in held if prompt not in request.prompts]  # of the same prompt the newer edit wins
        others = self.random.sample(others, min(HELD_PROMPTS, len(others)))
        rows: list[TokenBatch] = []
        if settings.keep_weight or look_elsewhere:
            prompts = [*request.keep, *others]
            said = greedy_tokens(model, tokenizer, prompts, max_new_tokens=KEPT_TOKENS)
            rows = [continuation_batch(encode(tokenizer, text), ids) for text, ids in zip(prompts, said, strict=True)]
            rows += [text_batch(encode(tokenizer, text)) for text in NEUTRAL_TEXTS]
        self.rows = rows
        first_held, first_neutral = len(request.keep), len(request.keep) + len(others)
        self.kept = range(first_held if rows else 0)
        self.held = range(first_held, first_neutral if rows else first_held)
        self.neutral = range(first_neutral, len(rows))
        self.keep_texts = settings.keep_texts
        self.enough = settings.margin + MARGIN_SLACK
        self.base = self._predictions(model)

    @torch.no_grad()
    def _predictions(self, model: PreTrainedModel) -> list[Tensor]:
        """The log-probabilities of the next token at every labelled position of each row, (n, vocabulary) fp32."""
        if not self.rows:
            return []
        batch = concatenate(self.rows).to(self.device)
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        return [
            row[labels != IGNORED].float().log_softmax(-1) for row, labels in zip(logits, batch.labels, strict=True)
        ]

    def losses(self, model: PeftModel) -> tuple[Tensor, Tensor, float]:
        """Cross-entropy of the answers, KL(base || model) on what must not move, and the smallest margin.

        What the model says after given prompts and what it predicts in neutral texts count alike, each averaged
        over its own positions.
        """
        said = [*self.kept, *self._some(self.held)]
        groups = [group for group in (said, self._some(self.neutral)) if group]
        batch = concatenate([self.answers, *(self.rows[index] for group in groups for index in group)]).to(self.device)
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        row = len(self.answers.input_ids)
        edit_loss, margin = answer_loss(logits[:row], batch.labels[:row], self.enough)
        keep_loss = torch.zeros((), device=self.device)
        for group in groups:
            end = row + len(group)
            predicted = logits[row:end][batch.labels[row:end] != IGNORED].float().log_softmax(-1)
            base = torch.cat([self.base[index] for index in group])
            keep_loss = keep_loss + functional.kl_div(predicted, base, log_target=True, reduction="batchmean")
            row = end
        return edit_loss, keep_loss, margin

    def _some(self, pool: range) -> list[int]:
        return self.random.sample(pool, min(self.keep_texts, len(pool)))


def answer_loss(logits: Tensor, labels: Tensor, enough: float) -> tuple[Tensor, float]:
    """Mean cross-entropy of the labelled tokens, in nats, and the smallest lead of one over its runner-up.

    A token that leads by ``enough`` adds no loss: pushing it on would only cost what the model says elsewhere.

    Args:
        logits: (n, length, vocabulary).
        labels: (n, length), IGNORED where nothing is wanted.
        enough: the lead, in nats, from which on a token is left alone.
    """
    looked_at = labels != IGNORED
    scores, wanted = logits[looked_at].float(), labels[looked_at]
    with torch.no_grad():
        target = scores.gather(1, wanted[:, None])[:, 0]
        runner_up = scores.scatter(1, wanted[:, None], -torch.inf).amax(1)
        lead = target - runner_up
    loss = functional.cross_entropy(scores, wanted, reduction="none")
    return (loss * (lead < enough)).mean(), float(lead.min())


@contextmanager
def adapted_model(model: PreTrainedModel, config: LoraConfig, seed: int) -> Iterator[PeftModel]:
    """The model with a fresh adapter, and without it afterwards; its weights are never touched."""
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
