"""One training run from its settings to its files."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from peft import PeftModel
from transformers import Trainer, TrainerCallback

from roselora.adapter.verify import AdapterCounts, verify
from roselora.errors import ConfigError, ModelError, RoseLoraError, SparsityError, UnsupportedError, reason_of
from roselora.files import write_atomically
from roselora.models.library_calls import quiet_libraries
from roselora.training import processes
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
from roselora.training.training_methods import AdaLoraCallback
from roselora.training.training_progress import Interruption, ProgressCallback, StepReport


@dataclass(frozen=True)
class Finished:
    """A run that reached its end.

    Attributes:
        settings: as they were.
        prepared: the trained model, its examples and the base's fingerprint.
        left_out: examples that had no completion within ``max_length``.
        seconds: of training, without loading and saving.
        counts: what is left of a RoseLoRA adapter, matrix by matrix; None for other methods.
        metrics: of the held-out examples, such as ``eval_loss`` and ``eval_accuracy``; empty without them.
        history: what was logged: dictionaries with ``step`` and ``loss``, ``learning_rate``, ``density``.
        artifacts: the files that were written.
    """

    settings: TrainSettings
    prepared: Prepared
    left_out: int
    seconds: float
    counts: AdapterCounts | None
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    artifacts: Artifacts


@dataclass(frozen=True)
class Interrupted:
    """A run that was stopped; it goes on from its checkpoint with ``resume``, in as many processes."""

    step: int
    total_steps: int
    checkpoint: Path
    processes: int


def _no_description(finished: Finished, folder: Path) -> None:
    pass


def train(
    settings: TrainSettings,
    *,
    resume: bool = False,
    on_step: Callable[[StepReport], None] | None = None,
    describe: Callable[[Finished, Path], None] = _no_description,
) -> Finished | Interrupted | None:
    """Train as ``settings`` say and write everything to ``settings.output``.

    Of several processes that train together, the main one alone reports, writes, and returns something. What a run
    that fails has written is removed, but for whole checkpoints.

    Args:
        resume: from the newest whole checkpoint in the output.
        on_step: called after each step.
        describe: writes a card or plots into the folder of weights that it is given, before that is in its place.

    Raises:
        ConfigError: settings, data or output cannot be meant so; nothing was written.
        LockedError: another run writes to the output.
        ModelError: the model cannot be loaded, or the disk refused a checkpoint or the results.
        SparsityError: a RoseLoRA adapter did not reach its density.
        NonFiniteError: the base model, a gradient, a parameter or the loss holds NaN or infinity; nothing is saved.
    """
    processes.join(settings.training.device)
    prompts = _read_prompts(settings)
    with _quietly(), ExitStack() as held:
        processes.agreed(lambda: held.enter_context(claimed(Path(settings.output))))
        checkpoint = processes.agreed(lambda: find_checkpoint(settings, resume))
        prepared = prepare(settings)
        identity = _identity(prepared, settings, prompts, checkpoint)
        retention = [] if prompts is None else [_retention(prepared, prompts, settings)]
        try:
            return _train(prepared, settings, checkpoint, identity, retention, on_step, describe)
        except BaseException:
            if processes.index() == 0:
                clear_unfinished(settings)
            raise


def plan(settings: TrainSettings, resume: bool) -> tuple[Prepared, Path | None]:
    """What :func:`train` would start from: the prepared model, and a checkpoint. Nothing is written.

    Raises:
        ConfigError: settings, data or output cannot be meant so.
        ModelError: the model cannot be loaded.
    """
    processes.join(settings.training.device)
    prompts = _read_prompts(settings)
    checkpoint = find_checkpoint(settings, resume)
    with _quietly():
        prepared = prepare(settings)
        _identity(prepared, settings, prompts, checkpoint)
        return prepared, checkpoint


def _read_prompts(settings: TrainSettings) -> list[str] | None:
    return None if settings.retention.prompts is None else read_prompts(settings.retention.prompts)


def _identity(
    prepared: Prepared, settings: TrainSettings, prompts: list[str] | None, checkpoint: Path | None
) -> Identity:
    """What this run's checkpoints say of it, which must be what the one says that it goes on from."""
    digest = None if prompts is None else hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
    identity = {"settings": settings_identity(settings), "inputs": inputs_identity(prepared, digest)}
    if checkpoint is not None:
        require_same(checkpoint, identity)
    return identity


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the libraries' words, and without their bars for each pass over the data, which push ours around."""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with quiet_libraries():
            yield
    finally:
        if shown:
            enable_progress_bars()


def _train(
    prepared: Prepared,
    settings: TrainSettings,
    checkpoint: Path | None,
    identity: Identity,
    more_callbacks: list[TrainerCallback],
    on_step: Callable[[StepReport], None] | None,
    describe: Callable[[Finished, Path], None],
) -> Finished | Interrupted | None:
    _check_what_can_be_checked(prepared, settings)
    interruption = Interruption()
    callbacks: list[TrainerCallback] = [
        ProgressCallback(on_step),
        FiniteCallback(),
        interruption,
        *([AdaLoraCallback(checkpoint)] if settings.method == "adalora" else []),
        CheckpointCallback(identity, checkpoint),  # after what adds to a checkpoint
        *more_callbacks,
    ]
    output = Path(settings.output)
    trainer = make_trainer(prepared, settings, callbacks)
    if trainer.is_world_process_zero():
        write_atomically(output / CONFIG, as_yaml(settings).encode())
    start = time.perf_counter()
    with interruption.listening(), _naming_what_gave_out(trainer, settings):
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except SparsityError:
            if interruption.stopped_at is None:  # a run that was stopped in mid-ramp is not at its density yet
                raise
    seconds = time.perf_counter() - start
    if interruption.stopped_at is not None:
        kept = settings.checkpoints / f"checkpoint-{interruption.stopped_at}"
        return Interrupted(interruption.stopped_at, prepared.total_steps, kept, processes.count())
    require_finite_loss(trainer)
    counts = verify(prepared.model) if settings.method == "rose" else None
    metrics = {} if prepared.examples.eval is None else _evaluate(trainer)
    if not trainer.is_world_process_zero():
        return None
    history = trainer.state.log_history
    outcome = partial(Finished, settings, prepared, prepared.examples.left_out, seconds, counts, metrics, history)
    artifacts = save_artifacts(
        prepared, settings, history, metrics, lambda made, folder: describe(outcome(made), folder)
    )
    with suppress(OSError):  # it holds checkpoints
        settings.checkpoints.rmdir()
    return outcome(artifacts)


def _check_what_can_be_checked(prepared: Prepared, settings: TrainSettings) -> None:
    """Meet before the training what would else be met after it."""
    if settings.method == "rose":
        with suppress(UnsupportedError):  # no delta, which is no failure
            trained_delta(prepared, settings, {})


@contextmanager
def _naming_what_gave_out(trainer: Trainer, settings: TrainSettings) -> Iterator[None]:
    """Say that the disk refused a checkpoint, whose writers raise what they like, and remove what there is of it.

    Likewise that the device has no more memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"The device ran out of memory at step {trainer.state.global_step + 1}; lower training.batch_size or "
            "max_length, or set training.gradient_checkpointing."
        ) from error
    except Exception as error:  # tokenizers raises no class of its own
        checkpoint = settings.checkpoints / f"checkpoint-{trainer.state.global_step}"
        if isinstance(error, RoseLoraError) or not checkpoint.is_dir() or is_whole(checkpoint):
            raise
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise ModelError(
            f"{checkpoint} could not be written ({reason_of(error)}); make room, and start it again."
        ) from error


def _retention(prepared: Prepared, prompts: list[str], settings: TrainSettings) -> TrainerCallback:
    if prepared.examples.labels is not None:
        raise ConfigError("retention holds what a model says, and a classifier says nothing; leave retention out.")
    model = cast(PeftModel, prepared.model)
    return RetentionCallback(model, prepared.tokenizer, prompts, settings.retention, settings.training.seed)


def _evaluate(trainer: Trainer) -> dict[str, float]:
    """The held-out loss, and the accuracy of a classifier; speeds are of this machine and left out."""
    measured = trainer.evaluate()
    return {name: measured[name] for name in ("eval_loss", "eval_accuracy") if name in measured}
