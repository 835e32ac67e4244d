"""AdaLoRA's ranks during a training run, and in its checkpoints."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class AdaLoraCallback(TrainerCallback):
    """Lets AdaLoRA reallocate its ranks after each step; PEFT leaves that to the training loop.

    PEFT saves an adapter without the ranks that ``rank_pattern`` in its config masks, and training cannot resume from
    that. So this callback keeps the pattern out of the config until training ends. Checkpoints then hold all ranks,
    and beside them the pattern and the averages that the ranks are chosen by.
    """

    _STATE = "adalora.pt"
    _AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")

    def __init__(self, resumed_from: Path | None) -> None:
        self._resumed_from = resumed_from
        self._pattern: dict[str, list[bool]] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore pattern and averages when a run is resumed."""
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
        """Reallocate the ranks; called after the optimizer's step, while the gradients still exist."""
        adalora = kwargs["model"].base_model
        config = adalora.peft_config[adalora.trainable_adapter_name]
        config.rank_pattern = self._pattern  # after the ramp, PEFT masks by it
        adalora.update_and_allocate(state.global_step)
        self._pattern, config.rank_pattern = config.rank_pattern, None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add pattern and averages to the checkpoint that the Trainer has just written."""
        if state.is_world_process_zero:
            allocator = kwargs["model"].base_model.rankallocator
            averages = {name: getattr(allocator, name) for name in self._AVERAGES}
            checkpoint = Path(str(args.output_dir), f"checkpoint-{state.global_step}")
            torch.save({"rank_pattern": self._pattern, **averages}, checkpoint / self._STATE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the pattern into the config, so that the adapter is saved with its final ranks only."""
        adalora = kwargs["model"].base_model
        adalora.peft_config[adalora.trainable_adapter_name].rank_pattern = self._pattern
