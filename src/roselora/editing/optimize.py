"""Train a low-rank adapter until the greedy answer is the target, holding the model still elsewhere."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.factors import FactorPair, factor_pairs
from roselora.editing.batch import IGNORED, answer_batch, concatenate, text_batch
from roselora.editing.neutral import NEUTRAL_TEXTS
from roselora.editing.request import EditRequest
from roselora.errors import EditError


@dataclass(frozen=True)
class EditSettings:
    """How an edit is trained.

    Attributes:
        rank: r of each adapted matrix.
        alpha: the scale of the update is alpha / rank.
        density: the fraction of each row of A and column of B that is kept.
        warmup: dense steps; ``ramp``: steps in which the density falls; training never stops before both are over.
        max_steps: optimizer steps after which the edit has failed.
        learning_rate: of Adam.
        margin: by how many nats the target's every token must lead its runner-up before training stops.
        keep_weight: weight of the KL divergence from the base on texts that must not move; 0 leaves it out.
        keep_texts: how many neutral texts each step looks at, beside all of the request's keep-prompts.
        prefixes: how many neutral texts are put before the prompt in turn, so that it holds in other contexts.
        dropout: LoRA dropout.
        clamp: bound on every entry of A and B (the paper's norm constraint), or None.
        target_modules: names of the adapted modules.
        seed: of A's initial values and of the choice of neutral texts.
    """

    rank: int = 8
    alpha: float = 16
    density: float = 0.05
    warmup: int = 3
    ramp: int = 12
    max_steps: int = 60
    learning_rate: float = 2e-3
    margin: float = 1.0
    keep_weight: float = 1.0
    keep_texts: int = 4
    prefixes: int = 0
    dropout: float = 0.0
    clamp: float | None = None
    target_modules: tuple[str, ...] = ("v_proj", "down_proj")
    seed: int = 0

    def adapter_config(self) -> RoseLoraConfig:
        """The RoseLoRA adapter that these settings train."""
        return RoseLoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # PEFT takes any number
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules),
            density=self.density,
            warmup=self.warmup,
            ramp=self.ramp,
            total_steps=self.max_steps,
            clamp=self.clamp,
        )


@dataclass(frozen=True)
class TrainedFactors:
    """The factors that an edit has trained, taken out of the model, and how training went."""

    pairs: tuple[FactorPair, ...]
    steps: int
    loss: float


def train_factors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    request: EditRequest,
    settings: EditSettings,
    config: LoraConfig,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainedFactors:
    """Train the adapter of ``config`` on one request; the model is given back as it was.

    Training stops as soon as the greedy answer to every prompt of the request is the target, by the margin, and
    a RoseLoRA adapter is at its density.

    Raises:
        EditError: the target was not reached within ``settings.max_steps``.
    """
    first_stop = settings.warmup + settings.ramp if isinstance(config, RoseLoraConfig) else 0
    device = next(model.parameters()).device
    data = _EditData(model, tokenizer, request, settings, device)
    with _adapted(model, config, settings.seed) as adapted:
        parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
        for step in range(settings.max_steps + 1):
            edit_loss, keep_loss, margin = data.losses(adapted)
            loss = float(edit_loss.detach())
            if on_step is not None:
                on_step(step, loss)
            if step >= first_stop and margin >= settings.margin:
                return TrainedFactors(tuple(factor_pairs(adapted.get_base_model(), "default")), step, loss)
            if step < settings.max_steps:
                torch.autograd.backward(edit_loss + settings.keep_weight * keep_loss)
                optimizer.step()
                optimizer.zero_grad()
    raise EditError(
        f"The model did not learn to answer {request.target!r} to {request.prompt!r} within {settings.max_steps} "
        "steps, so nothing was changed; allow more steps, a higher learning rate, a higher rank or a higher density."
    )


class _EditData:
    """The rows of one edit's batches, with the base model's predictions where it must not move."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        request: EditRequest,
        settings: EditSettings,
        device: torch.device,
    ) -> None:
        self.device = device
        self.random = random.Random(settings.seed)
        prompts = list(request.prompts)
        self.must_hold = len(prompts)
        texts = self.random.sample(NEUTRAL_TEXTS, len(NEUTRAL_TEXTS))
        prompts += [f"{text}\n{request.prompt}" for text in texts[: settings.prefixes]]
        self.answers = answer_batch(tokenizer, prompts, request.target)
        self.kept = [text_batch(tokenizer, [text]) for text in request.keep]
        self.neutral = [text_batch(tokenizer, [text]) for text in texts] if settings.keep_weight else []
        self.neutral_per_step = min(settings.keep_texts, len(self.neutral))
        if not settings.keep_weight:
            self.kept = []
        with torch.no_grad():
            self.base = {
                id(row): model(input_ids=row.input_ids.to(device)).logits[0].float().log_softmax(-1)
                for row in (*self.kept, *self.neutral)
            }

    def losses(self, model: PeftModel) -> tuple[Tensor, Tensor, float]:
        """Cross-entropy of the answers, KL(base || model) on what must not move, and the smallest margin."""
        held = [*self.kept, *self.random.sample(self.neutral, self.neutral_per_step)]
        batch = concatenate([self.answers, *held]).to(self.device)
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        answers = len(self.answers.input_ids)
        edit_loss, margin = self._answer_loss(logits[:answers], batch.labels[:answers])
        if not held:
            return edit_loss, torch.zeros((), device=self.device), margin
        predicted = logits[answers:][batch.labels[answers:] != IGNORED].float().log_softmax(-1)
        base = torch.cat([self.base[id(row)] for row in held])
        return edit_loss, functional.kl_div(predicted, base, log_target=True, reduction="batchmean"), margin

    def _answer_loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        looked_at = labels != IGNORED
        scores, wanted = logits[looked_at].float(), labels[looked_at]
        loss = functional.cross_entropy(scores, wanted)
        with torch.no_grad():
            target = scores.gather(1, wanted[:, None])[:, 0]
            runner_up = scores.scatter(1, wanted[:, None], -torch.inf).amax(1)
            # Prefixed prompts only help to generalise; the prompts of the request must hold.
            required = looked_at.nonzero()[:, 0] < self.must_hold
            return loss, float((target - runner_up)[required].min())


@contextmanager
def _adapted(model: PreTrainedModel, config: LoraConfig, seed: int) -> Iterator[PeftModel]:
    """The model with a fresh adapter, and without it afterwards; its weights are never touched."""
    requires_grad = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    training = model.training
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
        assert isinstance(adapted, PeftModel)
        try:
            adapted.train(config.lora_dropout > 0)
            yield adapted
        finally:
            adapted.unload()
            model.train(training)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(requires_grad[name])
