"""The methods that a run can train by, PEFT's and LoReFT, so that each has the same data, steps and schedule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, ShiraConfig, TaskType
from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from roselora.adapter.config import RoseLoraConfig
from roselora.errors import ConfigError
from roselora.training.loreft import LoReftConfig
from roselora.training.train_settings import AdapterSettings, TrainSettings

AnyConfig = PeftConfig | LoReftConfig


def adapter_config(settings: TrainSettings, task: TaskType, total_steps: int) -> AnyConfig | None:
    """The adapter that ``settings.method`` trains in ``total_steps`` optimizer steps; None trains every weight.

    Raises:
        ConfigError: values that cannot work, as the methods themselves say.
    """
    make = _CONFIGS.get(settings.method)
    return None if make is None else make(settings, task, total_steps)


def _rose(settings: TrainSettings, task: TaskType, total_steps: int) -> PeftConfig:
    adapter = settings.adapter
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


def _lora(settings: TrainSettings, task: TaskType, total_steps: int) -> PeftConfig:
    return LoraConfig(r=settings.adapter.rank, **_common(settings.adapter, task))


def _dora(settings: TrainSettings, task: TaskType, total_steps: int) -> PeftConfig:
    return LoraConfig(r=settings.adapter.rank, use_dora=True, **_common(settings.adapter, task))


def _adalora(settings: TrainSettings, task: TaskType, total_steps: int) -> PeftConfig:
    """AdaLoRA with rose's schedule: it starts at 1.5 times the rank and has cut down to the rank when the ramp ends."""
    adapter = settings.adapter
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


def _shira(settings: TrainSettings, task: TaskType, total_steps: int) -> PeftConfig:
    """As many entries of each matrix, drawn by the seed, as LoRA of that rank trains."""
    adapter = settings.adapter
    return ShiraConfig(
        r=adapter.rank, random_seed=settings.training.seed, target_modules=_targets(adapter), task_type=task
    )


def _ia3(settings: TrainSettings, task: TaskType, total_steps: int) -> PeftConfig:
    """For all-linear PEFT's own choice for the architecture: what the paper scales, keys, values and the MLP."""
    targets = _targets(settings.adapter)
    if targets == "all-linear":
        return IA3Config(task_type=task)
    known = {name for names in TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.values() for name in names}
    return IA3Config(
        target_modules=targets, feedforward_modules=[name for name in targets if name in known], task_type=task
    )


def _prefix(settings: TrainSettings, task: TaskType, total_steps: int) -> PeftConfig:
    return PrefixTuningConfig(num_virtual_tokens=settings.adapter.virtual_tokens, task_type=task)


def _loreft(settings: TrainSettings, task: TaskType, total_steps: int) -> LoReftConfig:
    adapter = settings.adapter
    return LoReftConfig(
        rank=adapter.rank,
        first=adapter.first_positions,
        last=adapter.last_positions,
        layers=None if adapter.layers is None else tuple(adapter.layers),
        shared=adapter.shared_positions,
    )


def _common(adapter: AdapterSettings, task: TaskType) -> dict[str, Any]:
    return {
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": _targets(adapter),
        "task_type": task,
    }


def _targets(adapter: AdapterSettings) -> str | list[str]:
    targets = adapter.target_modules
    return targets if isinstance(targets, str) else list(targets)


_CONFIGS: dict[str, Callable[[TrainSettings, TaskType, int], AnyConfig]] = {
    "rose": _rose,
    "lora": _lora,
    "dora": _dora,
    "adalora": _adalora,
    "shira": _shira,
    "ia3": _ia3,
    "prefix": _prefix,
    "loreft": _loreft,
}


class AdaLoraCallback(TrainerCallback):
    """Moves AdaLoRA's ranks after each step, which PEFT leaves to the training loop: without it they never move.

    PEFT saves an adapter without the ranks that its ``rank_pattern`` masks, and training cannot go on from that. So the
    pattern is kept here until the training ends, and a checkpoint holds all ranks, beside what they are chosen by.
    """

    _STATE = "adalora.pt"
    _AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")

    def __init__(self, resumed_from: Path | None) -> None:
        self._resumed_from = resumed_from
        self._pattern: dict[str, list[bool]] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called before the first step of this process."""
        if self._resumed_from is None:
            return
        allocator = kwargs["model"].base_model.rankallocator
        saved = torch.load(self._resumed_from / self._STATE, map_location=args.device, weights_only=True)
        self._pattern = saved["rank_pattern"]
        for name in self._AVERAGES:
            setattr(allocator, name, saved[name])

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called between the optimizer's step and ``zero_grad``, while the gradients are there."""
        adalora = kwargs["model"].base_model
        config = adalora.peft_config[adalora.trainable_adapter_name]
        config.rank_pattern = self._pattern  # which PEFT masks by, after the ramp
        adalora.update_and_allocate(state.global_step)
        self._pattern, config.rank_pattern = config.rank_pattern, None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Called when the Trainer has written its checkpoint."""
        if state.is_world_process_zero:
            allocator = kwargs["model"].base_model.rankallocator
            averages = {name: getattr(allocator, name) for name in self._AVERAGES}
            checkpoint = Path(str(args.output_dir), f"checkpoint-{state.global_step}")
            torch.save({"rank_pattern": self._pattern, **averages}, checkpoint / self._STATE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called after the last checkpoint; what is saved from now on has the ranks that were kept alone."""
        adalora = kwargs["model"].base_model
        adalora.peft_config[adalora.trainable_adapter_name].rank_pattern = self._pattern
