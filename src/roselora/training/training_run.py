"""One training run, from its settings to its files."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from peft import PeftModel
from transformers import Trainer, TrainerCallback

from roselora.adapter.density_check import AdapterCounts, verify
from roselora.errors import ConfigError, ModelError, RoseLoraError, SparsityError, UnsupportedError, reason_of
from roselora.files import write_atomically
from roselora.models.library_calls import quiet_libraries
from roselora.training import processes
from roselora.training.adalora_ranks import AdaLoraCallback
from roselora.training.artifacts import Artifacts, save_artifacts, trained_delta
from roselora.training.checkpoints import (
    CheckpointCallback,
    Identity,
    inputs_identity,
    is_whole,
    require_same,
    settings_identity,
)
from roselora.training.config_file import as_yaml
from roselora.training.nonfinite import FiniteCallback, require_finite_loss
from roselora.training.output_folder import CONFIG, claimed, clear_unfinished, find_checkpoint
from roselora.training.prepare import Prepared, prepare
from roselora.training.retained_prompts import RetentionCallback, read_prompts
from roselora.training.train_settings import TrainSettings
from roselora.training.trainers import make_trainer
from roselora.training.training_progress import Interruption, ProgressCallback, StepReport


@dataclass(frozen=True)
class Finished:
    """A run that reached its end.

    Attributes:
        settings: the settings of the run.
        prepared: the trained model, its examples and the hash of the base model.
        seconds: of training, without loading and saving.
        counts: nonzeros and sparsity of a RoseLoRA adapter, matrix by matrix; None for other methods.
        metrics: of the validation set, such as ``eval_loss`` and ``eval_accuracy``; empty without one.
        history: the Trainer's log: dictionaries with ``step`` and ``loss``, ``learning_rate``, ``density``.
        artifacts: the files that were written.
    """

    settings: TrainSettings
    prepared: Prepared
    seconds: float
    counts: AdapterCounts | None
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    artifacts: Artifacts

    @property
    def left_out(self) -> int:
        """How many examples were not trained on, since no token of their completion fits into ``max_length``."""
        return self.prepared.examples.left_out


@dataclass(frozen=True)
class Interrupted:
    """A run that was stopped. It can be resumed from its checkpoint, in the same number of processes."""

    step: int
    total_steps: int
    checkpoint: Path
    processes: int


Describe = Callable[[Finished, Path], None]
"""Writes a model card or plots into the folder of the weights, before that folder gets its final name."""


def train(
    settings: TrainSettings,
    *,
    resume: bool = False,
    on_step: Callable[[StepReport], None] | None = None,
    describe: Describe | None = None,
) -> Finished | Interrupted | None:
    """Train a model and write everything to ``settings.output``.

    If several processes train together, only the main one reports, writes, and returns an outcome; the others return
    None. A run that fails removes its files, except whole checkpoints.

    Args:
        resume: from the newest whole checkpoint in the output.
        on_step: called after each optimizer step.
        describe: adds files, such as a model card, to the folder of the weights.

    Raises:
        ConfigError: settings, data or output cannot work; nothing was written.
        LockedError: another run writes to the output.
        ModelError: the model cannot be loaded, or the disk refused a checkpoint or the results.
        SparsityError: a RoseLoRA adapter did not reach its density.
        NonFiniteError: the base model, a gradient, a parameter or the loss holds NaN or infinity; nothing is saved.
    """
    processes.join(settings.training.device)
    prompts = _retention_prompts(settings)

    def start() -> Path | None:
        cleanup.enter_context(claimed(Path(settings.output)))
        checkpoint = find_checkpoint(settings, resume)
        if checkpoint is None:
            clear_unfinished(settings)
        return checkpoint

    with _quiet(), ExitStack() as cleanup:
        checkpoint = processes.agreed(start)
        prepared = prepare(settings)
        identity = _identity(prepared, settings, prompts, checkpoint)
        interruption = Interruption()
        callbacks = [ProgressCallback(on_step), FiniteCallback(), interruption]
        callbacks += _callbacks(prepared, settings, prompts, identity, checkpoint)
        try:
            _require_delta_possible(prepared, settings)
            return _train(prepared, settings, checkpoint, callbacks, interruption, describe)
        except BaseException:
            if processes.index() == 0:
                clear_unfinished(settings)
            raise


def plan(settings: TrainSettings, resume: bool) -> tuple[Prepared, Path | None]:
    """What :func:`train` would start from: the prepared model, and a checkpoint or None. Nothing is written.

    Raises:
        ConfigError: settings, data or output cannot work.
        ModelError: the model cannot be loaded.
    """
    processes.join(settings.training.device)
    prompts = _retention_prompts(settings)
    checkpoint = find_checkpoint(settings, resume)
    with _quiet():
        prepared = prepare(settings)
        _identity(prepared, settings, prompts, checkpoint)
        return prepared, checkpoint


def _retention_prompts(settings: TrainSettings) -> list[str] | None:
    return None if settings.retention.prompts is None else read_prompts(settings.retention.prompts)


def _identity(
    prepared: Prepared, settings: TrainSettings, prompts: list[str] | None, checkpoint: Path | None
) -> Identity:
    """What this run writes into its checkpoints; the one that it resumes from must hold the same."""
    digest = None if prompts is None else hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
    identity = {"settings": settings_identity(settings), "inputs": inputs_identity(prepared, digest)}
    if checkpoint is not None:
        require_same(checkpoint, identity)
    return identity


def _callbacks(
    prepared: Prepared,
    settings: TrainSettings,
    prompts: list[str] | None,
    identity: Identity,
    checkpoint: Path | None,
) -> list[TrainerCallback]:
    callbacks: list[TrainerCallback] = [AdaLoraCallback(checkpoint)] if settings.method == "adalora" else []
    callbacks.append(CheckpointCallback(identity, checkpoint))  # after the callbacks that add files to a checkpoint
    if prompts is not None:
        if prepared.examples.labels is not None:
            raise ConfigError("retention keeps a language model's output, and a classifier has none; leave it out.")
        model = cast(PeftModel, prepared.model)
        seed = settings.training.seed
        callbacks.append(RetentionCallback(model, prepared.tokenizer, prompts, settings.retention, seed))
    return callbacks


def _require_delta_possible(prepared: Prepared, settings: TrainSettings) -> None:
    """Raise before training what saving the delta would raise after it."""
    if settings.method == "rose":
        with suppress(UnsupportedError):  # such a run is saved without a delta
            trained_delta(prepared, settings, {})


def _train(
    prepared: Prepared,
    settings: TrainSettings,
    checkpoint: Path | None,
    callbacks: list[TrainerCallback],
    interruption: Interruption,
    describe: Describe | None,
) -> Finished | Interrupted | None:
    with interruption.listening():
        if processes.index() == 0:  # first of all files: it tells whose they are if the run is killed
            write_atomically(Path(settings.output, CONFIG), as_yaml(settings).encode())
        trainer = make_trainer(prepared, settings, callbacks)
        start = time.perf_counter()
        with _naming_full_disk_or_memory(trainer, settings):
            try:
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            except SparsityError:
                if interruption.stopped_at is None:  # a run stopped during the ramp is not at its density yet
                    raise
        seconds = time.perf_counter() - start
    if (step := interruption.stopped_at) is not None:
        return Interrupted(step, prepared.total_steps, settings.checkpoints / f"checkpoint-{step}", processes.count())
    require_finite_loss(trainer)
    counts = verify(prepared.model) if settings.method == "rose" else None
    metrics = {} if prepared.examples.eval is None else _evaluate(trainer)
    if not trainer.is_world_process_zero():
        return None

    history = trainer.state.log_history

    def finished(artifacts: Artifacts) -> Finished:
        return Finished(settings, prepared, seconds, counts, metrics, history, artifacts)

    def add_description(artifacts: Artifacts, folder: Path) -> None:
        if describe is not None:
            describe(finished(artifacts), folder)

    artifacts = save_artifacts(prepared, settings, history, metrics, add_description)
    with suppress(OSError):  # it is not empty if the run wrote checkpoints
        settings.checkpoints.rmdir()
    return finished(artifacts)


def _evaluate(trainer: Trainer) -> dict[str, float]:
    """The validation loss, and a classifier's accuracy, without the speeds that the Trainer adds."""
    measured = trainer.evaluate()
    return {name: measured[name] for name in ("eval_loss", "eval_accuracy") if name in measured}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' messages, and without the progress bars of datasets, which would break up ours."""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with quiet_libraries():
            yield
    finally:
        if shown:
            enable_progress_bars()


@contextmanager
def _naming_full_disk_or_memory(trainer: Trainer, settings: TrainSettings) -> Iterator[None]:
    """Turn what libraries raise on a full disk or device into a ModelError; an unfinished checkpoint is removed.

    The writers of a checkpoint (torch, tokenizers, safetensors) have no error type in common. So an error counts as the
    disk's if it left a checkpoint of this step that is not whole.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"The device ran out of memory at step {trainer.state.global_step + 1}; lower training.batch_size or "
            "max_length, or set training.gradient_checkpointing."
        ) from error
    except Exception as error:
        checkpoint = settings.checkpoints / f"checkpoint-{trainer.state.global_step}"
        if isinstance(error, RoseLoraError) or not checkpoint.is_dir() or is_whole(checkpoint):
            raise
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise ModelError(
            f"{checkpoint} could not be written ({reason_of(error)}); free some space, and run it again."
        ) from error
