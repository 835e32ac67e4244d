"""One training run from its settings to its files."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from peft import PeftModel
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from roselora.adapter.verify import AdapterCounts, verify
from roselora.errors import ConfigError, SparsityError
from roselora.files import write_atomically
from roselora.models.loading import quiet_libraries
from roselora.training import processes
from roselora.training.artifacts import Artifacts, save_artifacts
from roselora.training.config_file import as_yaml
from roselora.training.methods import AdaLoraCallback
from roselora.training.prepare import Prepared, prepare
from roselora.training.progress import Interruption, ProgressCallback, StepReport
from roselora.training.retention import RetentionCallback, read_prompts
from roselora.training.settings import TrainSettings
from roselora.training.trainers import make_trainer

CONFIG = "config.yaml"
"""Beside the results: the settings, complete, as a config file that repeats the run."""


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
    """A run that was stopped; it goes on from its checkpoint with ``resume``."""

    step: int
    total_steps: int
    checkpoint: Path


def train(
    settings: TrainSettings, *, resume: bool = False, on_step: Callable[[StepReport], None] | None = None
) -> Finished | Interrupted | None:
    """Train as ``settings`` say and write everything to ``settings.output``.

    Of several processes that train together, the main one alone reports, writes, and returns something.

    Raises:
        ConfigError: settings, data or output cannot be meant so; nothing was written.
        ModelError: the model cannot be loaded.
        SparsityError: a RoseLoRA adapter did not reach its density.
        NonFiniteError: a loss or gradient became NaN or infinite.
    """
    processes.join(settings.training.device)
    checkpoint = find_checkpoint(settings, resume)
    processes.wait()  # before the first of them writes there
    prompts = None if settings.retention.prompts is None else read_prompts(settings.retention.prompts)
    with _quietly():
        prepared = prepare(settings)
        retention = [] if prompts is None else [_retention(prepared, prompts, settings)]
        return _train(prepared, settings, checkpoint, retention, on_step)


def plan(settings: TrainSettings, resume: bool) -> tuple[Prepared, str | None]:
    """What :func:`train` would start from: the prepared model, and a checkpoint. Nothing is written.

    Raises:
        ConfigError: settings, data or output cannot be meant so.
        ModelError: the model cannot be loaded.
    """
    processes.join(settings.training.device)
    checkpoint = find_checkpoint(settings, resume)
    with _quietly():
        return prepare(settings), checkpoint


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


def find_checkpoint(settings: TrainSettings, resume: bool) -> str | None:
    """The checkpoint to go on from.

    Raises:
        ConfigError: there is none, or it belongs to other settings; or, without ``resume``, the output is not empty.
    """
    output = Path(settings.output)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output {output} is a file; name a new or empty folder.")
    if not resume:
        if output.exists() and any(output.iterdir()):
            raise ConfigError(f"output {output} is not empty; name another folder, or go on there with --resume.")
        return None
    found = get_last_checkpoint(settings.checkpoints) if settings.checkpoints.is_dir() else None  # type: ignore[no-untyped-call]
    if found is None:
        raise ConfigError(f"{settings.checkpoints} holds no checkpoint to go on from; start without --resume.")
    earlier = output / CONFIG
    if earlier.is_file() and earlier.read_text(encoding="utf-8") != as_yaml(settings):
        raise ConfigError(f"The run in {output} had other settings, see {earlier}; go on with those.")
    return str(found)


def _train(
    prepared: Prepared,
    settings: TrainSettings,
    checkpoint: str | None,
    more_callbacks: list[TrainerCallback],
    on_step: Callable[[StepReport], None] | None,
) -> Finished | Interrupted | None:
    interruption = Interruption()
    callbacks: list[TrainerCallback] = [ProgressCallback(on_step), interruption, *more_callbacks]
    if settings.method == "adalora":
        callbacks.append(AdaLoraCallback())
    output = Path(settings.output)
    try:
        trainer = make_trainer(prepared, settings, callbacks)
    except ConfigError:
        for folder in (settings.checkpoints, output):  # the Trainer makes them before it looks at the data
            with suppress(OSError):
                folder.rmdir()
        raise
    if trainer.is_world_process_zero():
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(output / CONFIG, as_yaml(settings).encode())
    start = time.perf_counter()
    with interruption.listening():
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except SparsityError:
            if interruption.stopped_at is None:  # a run that was stopped in mid-ramp is not at its density yet
                raise
    seconds = time.perf_counter() - start
    if interruption.stopped_at is not None:
        kept = settings.checkpoints / f"checkpoint-{interruption.stopped_at}"
        return Interrupted(interruption.stopped_at, prepared.total_steps, kept)
    counts = verify(prepared.model) if settings.method == "rose" else None
    metrics = {} if prepared.examples.eval is None else _evaluate(trainer)
    if not trainer.is_world_process_zero():
        return None
    history = trainer.state.log_history
    artifacts = save_artifacts(prepared, settings, history, metrics)
    left_out = len(prepared.examples.train) - len(cast(Dataset, trainer.train_dataset))
    return Finished(settings, prepared, left_out, seconds, counts, metrics, history, artifacts)


def _retention(prepared: Prepared, prompts: list[str], settings: TrainSettings) -> TrainerCallback:
    if prepared.examples.labels is not None:
        raise ConfigError("retention holds what a model says, and a classifier says nothing; leave retention out.")
    model = cast(PeftModel, prepared.model)
    return RetentionCallback(model, prepared.tokenizer, prompts, settings.retention, settings.training.seed)


def _evaluate(trainer: Trainer) -> dict[str, float]:
    """The held-out loss, and the accuracy of a classifier; speeds are of this machine and left out."""
    measured = trainer.evaluate()
    return {name: measured[name] for name in ("eval_loss", "eval_accuracy") if name in measured}
