"""Prompts on which a tuned model shall go on as its base does: their KL's sensitivity, for the importance.

The cost at each look is one forward pass of the base and one forward and backward pass of the adapted model over the
prompts, and one fp32 number for each adapter parameter that is kept until the next look.
"""

import random
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from roselora.adapter.tracking import Retention, adapters_within
from roselora.core.importance import sensitivity
from roselora.errors import ConfigError
from roselora.files import user_path
from roselora.training.examples import read_examples
from roselora.training.train_settings import DataSettings, RetentionSettings
from roselora.user_files import read_text


def read_prompts(source: str) -> list[str]:
    """One prompt a line of a .txt file, or the field prompt or text of each record of a .jsonl, .json or .csv file.

    Raises:
        ConfigError: the file is not there, or holds no prompts.
    """
    path = user_path(source)
    if path.suffix.lower() != ".txt":
        records = read_examples(source, DataSettings(train=source))
        field = next((name for name in ("prompt", "text") if name in records.column_names), None)
        if field is None:
            raise ConfigError(f"The records of {source} have neither prompt nor text.")
        prompts = list(records[field])
    else:
        prompts = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    prompts = [prompt for prompt in prompts if isinstance(prompt, str) and prompt.strip()]
    if not prompts:
        raise ConfigError(f"{source} holds no prompts.")
    return prompts


class RetentionCallback(TrainerCallback):
    """Before each step of a Trainer, notes for the pruner what each entry does to the model's behaviour on prompts.

    Works with any Trainer; in a plain loop, call :meth:`look` before ``optimizer.step()``.

    Args:
        model: the model that is trained, with one RoseLoRA adapter.
        tokenizer: its own.
        prompts: texts on which the next-token distribution should stay.
        settings: weight, frequency, batch size and length.
        seed: of the choice of prompts at each look.

    Raises:
        ConfigError: the model has no RoseLoRA adapter.
    """

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: list[str],
        settings: RetentionSettings,
        seed: int = 0,
    ) -> None:
        found = adapters_within(model)
        if len(found) != 1:
            raise ConfigError(f"Retention needs a model with one RoseLoRA adapter, and this one has {len(found)}.")
        self._tracked, self._adapter = found[0]
        self._model, self._tokenizer, self._prompts, self._settings = model, tokenizer, prompts, settings
        self._seed = seed

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called when the gradients are ready and clipped, just before the optimizer's step."""
        if state.global_step % self._settings.every == 0 or self._adapter.retention is None:
            self.look(state.global_step)

    def look(self, step: int) -> float:
        """Measure KL(base || adapted) on some prompts, in nats a token, and note its sensitivity for the pruner."""
        factors = list(self._tracked.factors(self._adapter.name))
        training = self._model.training
        self._model.eval()  # no dropout: a random divergence is not the entries' doing
        try:
            with torch.enable_grad():
                divergence = self._divergence(step)
                gradients = torch.autograd.grad(divergence, [factor for _, factor, _ in factors])
        finally:
            self._model.train(training)
        with torch.no_grad():
            sensitivities = {
                name: sensitivity(factor, gradient)
                for (name, factor, _), gradient in zip(factors, gradients, strict=True)
            }
        self._adapter.retention = Retention(self._settings.weight, sensitivities)
        return float(divergence.detach())

    def _divergence(self, step: int) -> Tensor:
        # Drawn by the step, so that a resumed run and every process of a distributed one see the same prompts.
        chosen = random.Random(f"{self._seed} {step}")
        prompts = chosen.sample(self._prompts, min(self._settings.batch_size, len(self._prompts)))
        batch = self._tokenizer(
            prompts, padding=True, truncation=True, max_length=self._settings.max_length, return_tensors="pt"
        ).to(next(self._model.parameters()).device)
        real = batch["attention_mask"].bool()
        with torch.no_grad(), self._model.disable_adapter():
            base = self._model(**batch).logits[real].float().log_softmax(-1)
        adapted = self._model(**batch).logits[real].float().log_softmax(-1)
        return functional.kl_div(adapted, base, log_target=True, reduction="batchmean")
