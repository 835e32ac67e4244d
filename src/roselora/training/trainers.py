"""The Trainer of a run: trl's for language models, transformers' own for classifiers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from roselora.errors import ConfigError, reason_of
from roselora.training import processes
from roselora.training.prepare import Prepared
from roselora.training.train_settings import TrainSettings


def make_trainer(prepared: Prepared, settings: TrainSettings, callbacks: Sequence[TrainerCallback]) -> Trainer:
    """A Trainer that is ready to train.

    Raises:
        ConfigError: the Trainer refuses the settings, for example a dtype that the device does not support.
    """
    labels = prepared.examples.labels
    common: dict[str, Any] = {
        "model": prepared.model,
        "train_dataset": prepared.examples.train,
        "eval_dataset": prepared.examples.eval,
        "processing_class": prepared.tokenizer,
        "callbacks": list(callbacks),
    }
    try:
        arguments = _arguments(prepared, settings)
        # Without a launcher a Trainer splits batches over all visible GPUs, and its epochs have fewer steps.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        if isinstance(arguments, SFTConfig):
            trainer: Trainer = SFTTrainer(args=arguments, **common)
        else:
            trainer = Trainer(
                args=arguments,
                data_collator=DataCollatorWithPadding(prepared.tokenizer),
                compute_metrics=_accuracy if labels else None,  # a regression is judged by its loss
                **common,
            )
    except (ValueError, ImportError) as error:
        raise ConfigError(f"Training cannot start with these settings ({reason_of(error)}).") from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _accuracy(prediction: EvalPrediction) -> dict[str, float]:
    scores = prediction.predictions
    logits = scores[0] if isinstance(scores, tuple) else scores
    return {"accuracy": float((np.argmax(logits, axis=-1) == prediction.label_ids).mean())}


def _arguments(prepared: Prepared, settings: TrainSettings) -> TrainingArguments:
    training = settings.training
    arguments: dict[str, Any] = {
        "output_dir": str(settings.checkpoints),
        "num_train_epochs": training.epochs,
        "max_steps": prepared.total_steps,
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.lr_scheduler,
        # The constant schedule of transformers has no warm-up.
        "warmup_steps": 0 if training.lr_scheduler == "constant" else training.lr_warmup,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm or 0.0,  # at 0 the Trainer does not clip
        "gradient_checkpointing": training.gradient_checkpointing,
        "seed": training.seed,
        "logging_steps": training.log_steps,
        "logging_nan_inf_filter": False,
        "eval_strategy": "no" if training.eval_steps is None else "steps",
        "eval_steps": training.eval_steps,
        "save_strategy": "no" if training.save_steps is None else "steps",
        "save_steps": training.save_steps or prepared.total_steps,
        "report_to": training.report_to,
        "disable_tqdm": True,
        "use_cpu": processes.join(training.device).type == "cpu",
        "bf16": False,
        "fp16": training.dtype == "float16",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    if prepared.examples.labels is not None:
        return TrainingArguments(**arguments)
    # The examples are already tokenized and truncated.
    return SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
