"""Retention: prompts on which the trained model should keep the base model's next-token distribution.

The sensitivity of the KL divergence on these prompts is subtracted from the importance, so pruning prefers entries that
leave the prompts alone. Each measurement costs a forward pass of the base, a forward and a backward pass of the adapted
model over some prompts, and one fp32 number per adapter parameter that is kept until the next one.
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
from roselora.training.record_reading import column_names, read_rows
from roselora.training.train_settings import RetentionSettings
from roselora.user_files import read_text


def read_prompts(source: str) -> list[str]:
    """The prompts of a .txt file, one a line, or the field prompt or text of each record of .jsonl, .json or .csv.

    Raises:
        ConfigError: the file is not there, or holds no prompts.
    """
    path = user_path(source)
    if path.suffix.lower() == ".txt":
        prompts: list[Any] = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    elif path.suffix.lower() not in (".jsonl", ".json", ".csv"):
        raise ConfigError(f"{source} is no .txt, .jsonl, .json or .csv file; give prompts as one of these.")
    else:
        rows = read_rows(source)
        names = column_names(rows)
        field = next((name for name in ("prompt", "text") if name in names), None)
        if field is None:
            raise ConfigError(f"The records of {source} have neither prompt nor text.")
        prompts = [row.get(field) for row in rows]
    prompts = [prompt for prompt in prompts if isinstance(prompt, str) and prompt.strip()]
    if not prompts:
        raise ConfigError(f"{source} holds no prompts.")
    try:
        "".join(prompts).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"A prompt of {source} has a lone surrogate ({error.object[error.start]!r}).") from None
    return prompts


class RetentionCallback(TrainerCallback):
    """Before each step of a Trainer, measures how much each adapter entry changes the output on the prompts.

    Works with any Trainer; in a plain loop, call :meth:`look` before ``optimizer.step()``.

    Args:
        model: the trained model, with one RoseLoRA adapter.
        tokenizer: its tokenizer.
        prompts: texts on which the next-token distribution should stay the same.
        settings: weight, frequency, batch size and length.
        seed: for the choice of prompts.

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
        """Measure, just before the optimizer's step, every ``settings.every`` steps."""
        if state.global_step % self._settings.every == 0 or self._adapter.retention is None:
            self.look(state.global_step)

    def look(self, step: int) -> float:
        """Measure KL(base || adapted) in nats per token on some prompts, and give its sensitivity to the pruner."""
        factors = list(self._tracked.factors(self._adapter.name))
        training = self._model.training
        self._model.eval()  # without dropout, whose noise would be part of the divergence
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
        # Seeded by the step, so that a resumed run, and all processes of a distributed one, choose the same prompts.
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
