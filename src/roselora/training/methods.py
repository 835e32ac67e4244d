"""The methods that a run can train by, as PEFT's configs, so that each has the same data, steps and schedule."""

from collections.abc import Callable
from typing import Any

from peft import AdaLoraConfig, LoraConfig, PeftConfig, TaskType
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from roselora.adapter.config import RoseLoraConfig
from roselora.errors import ConfigError
from roselora.training.settings import AdapterSettings, TrainSettings


def adapter_config(settings: TrainSettings, task: TaskType, total_steps: int) -> PeftConfig | None:
    """The adapter that ``settings.method`` trains in ``total_steps`` optimizer steps; None trains every weight.

    Raises:
        ConfigError: values that cannot work, as the methods themselves say.
    """
    make = _CONFIGS.get(settings.method)
    return None if make is None else make(settings.adapter, task, total_steps)


def _rose(adapter: AdapterSettings, task: TaskType, total_steps: int) -> PeftConfig:
    return RoseLoraConfig(
        r=adapter.rank,
        density=adapter.density,
        importance_beta=adapter.importance_beta,
        warmup=adapter.warmup,
        ramp=adapter.ramp,
        clamp=adapter.clamp,
        total_steps=total_steps,
        **_common(adapter, task),
    )


def _lora(adapter: AdapterSettings, task: TaskType, total_steps: int) -> PeftConfig:
    return LoraConfig(r=adapter.rank, **_common(adapter, task))


def _dora(adapter: AdapterSettings, task: TaskType, total_steps: int) -> PeftConfig:
    return LoraConfig(r=adapter.rank, use_dora=True, **_common(adapter, task))


def _adalora(adapter: AdapterSettings, task: TaskType, total_steps: int) -> PeftConfig:
    """AdaLoRA with rose's schedule: it starts at 1.5 times the rank and has cut down to the rank when the ramp ends."""
    warmup, ramp_end = RoseLoraConfig(warmup=adapter.warmup, ramp=adapter.ramp).ramp_bounds(total_steps)
    if ramp_end <= warmup or ramp_end == total_steps:
        raise ConfigError(
            f"AdaLoRA cuts its ranks during the ramp and needs steps in it and after it, but warmup "
            f"({adapter.warmup}) and ramp ({adapter.ramp}) put it from step {warmup} to {ramp_end} of {total_steps}."
        )
    return AdaLoraConfig(
        init_r=round(1.5 * adapter.rank),
        target_r=adapter.rank,
        tinit=warmup,
        tfinal=total_steps - ramp_end,
        deltaT=max(1, (ramp_end - warmup) // 20),
        total_step=total_steps,
        **_common(adapter, task),
    )


def _common(adapter: AdapterSettings, task: TaskType) -> dict[str, Any]:
    targets = adapter.target_modules
    return {
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "task_type": task,
    }


_CONFIGS: dict[str, Callable[[AdapterSettings, TaskType, int], PeftConfig]] = {
    "rose": _rose,
    "lora": _lora,
    "dora": _dora,
    "adalora": _adalora,
}


class AdaLoraCallback(TrainerCallback):
    """Moves AdaLoRA's ranks after each step, which PEFT leaves to the training loop: without it they never move."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called between the optimizer's step and ``zero_grad``, while the gradients are there."""
        kwargs["model"].base_model.update_and_allocate(state.global_step)
