"""The adapter config of each training method: RoseLoRA, PEFT's own methods, and LoReFT."""

from typing import Any

from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, ShiraConfig, TaskType
from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING

from roselora.adapter.config import RoseLoraConfig
from roselora.errors import ConfigError
from roselora.training.loreft import LoReftConfig
from roselora.training.train_settings import TrainSettings

AnyConfig = PeftConfig | LoReftConfig


def adapter_config(settings: TrainSettings, task: TaskType, total_steps: int) -> AnyConfig | None:
    """The adapter that ``settings.method`` trains in ``total_steps`` optimizer steps; None trains every weight.

    Raises:
        ConfigError: the method refuses the values.
    """
    adapter = settings.adapter
    targets: dict[str, Any] = {"target_modules": adapter.target_modules, "task_type": task}
    lora: dict[str, Any] = {"lora_alpha": adapter.alpha, "lora_dropout": adapter.dropout, **targets}
    match settings.method:
        case "rose":
            return RoseLoraConfig(
                r=adapter.rank,
                density=adapter.density,
                importance_beta=adapter.importance_beta,
                warmup=adapter.warmup,
                ramp=adapter.ramp,
                clamp=adapter.clamp,
                total_steps=total_steps,
                **lora,
            )
        case "lora" | "dora":
            return LoraConfig(r=adapter.rank, use_dora=settings.method == "dora", **lora)
        case "adalora":
            return AdaLoraConfig(**_adalora_schedule(settings, total_steps), **lora)
        case "shira":  # trains as many entries of each matrix as LoRA of that rank, chosen at random
            return ShiraConfig(r=adapter.rank, random_seed=settings.training.seed, **targets)
        case "ia3" if adapter.target_modules == "all-linear":
            return IA3Config(
                task_type=task
            )  # PEFT's choice for the architecture: keys, values and the MLP, as published
        case "ia3":
            known = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.values()
            mlp = [name for name in adapter.target_modules if any(name in names for names in known)]
            return IA3Config(feedforward_modules=mlp, **targets)
        case "prefix":
            return PrefixTuningConfig(num_virtual_tokens=adapter.virtual_tokens, task_type=task)
        case "loreft":
            return LoReftConfig(
                rank=adapter.rank,
                first=adapter.first_positions,
                last=adapter.last_positions,
                layers=None if adapter.layers is None else tuple(adapter.layers),
                shared=adapter.shared_positions,
            )
        case "full":
            return None


def _adalora_schedule(settings: TrainSettings, total_steps: int) -> dict[str, Any]:
    """AdaLoRA on RoseLoRA's schedule: it starts at 1.5 times the rank and reaches the rank at the end of the ramp."""
    adapter = settings.adapter
    warmup, ramp_end = RoseLoraConfig(warmup=adapter.warmup, ramp=adapter.ramp).ramp_bounds(total_steps)
    if ramp_end <= warmup or ramp_end == total_steps:
        raise ConfigError(
            f"AdaLoRA cuts its ranks during the ramp and needs steps in it and after it, but warmup "
            f"({adapter.warmup}) and ramp ({adapter.ramp}) put it from step {warmup} to {ramp_end} of {total_steps}."
        )
    return {
        "init_r": round(1.5 * adapter.rank),
        "target_r": adapter.rank,
        "tinit": warmup,
        "tfinal": total_steps - ramp_end,
        "deltaT": max(1, (ramp_end - warmup) // 20),
        "total_step": total_steps,
    }
