"""Train every method with every seed, and ask each trained model every question, resumably."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import gather_object  # type: ignore[attr-defined]
from peft import PeftModel
from transformers import PreTrainedModel

from roselora.bench.metrics.capability import outcomes
from roselora.bench.metrics.cost import measured
from roselora.bench.metrics.learning_rate_choice import chosen_rate
from roselora.bench.records.failed_run import FailedRun, error_line
from roselora.bench.records.run_files import BASE, HEAD, appending, read_head, read_records, write_head
from roselora.bench.records.tuning_bench_records import Abilities, Answered, TrainedUnit, TuningHead
from roselora.bench.running.task_answers import ask, shard
from roselora.bench.running.tuning_plan import HELD_OUT_DATA, TRAINING_DATA, TuningPlan
from roselora.bench.tasks.task import Prediction, Question
from roselora.errors import ConfigError, ModelError, StoppedError
from roselora.files import LockedError, make_folder, write_atomically
from roselora.models.loading import LoadedModel, load
from roselora.models.task_heads import head_for
from roselora.training import processes
from roselora.training.checkpoints import newest_whole
from roselora.training.footprint import entries_changed
from roselora.training.loreft import load_loreft
from roselora.training.output_folder import claimed, weights_folder
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import Interrupted, train

logger = logging.getLogger(__name__)

BATCHES_A_ROUND = 4
"""Batches that each process answers before the answers are gathered and kept."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, and how much of how much of it is done."""


def run(plan: TuningPlan, on_progress: OnProgress, *, batch_size: int = 16) -> list[FailedRun]:
    """Do what of the plan is not done yet.

    Of several processes that `accelerate launch` has started, each trains its share of a batch and answers its share of
    the questions; the main one alone writes.

    Returns:
        what could not be trained or asked, by a bug or for want of memory; the other methods have been, and the same
        command tries it again.

    Raises:
        StoppedError: a training run was interrupted; the same command goes on with it.
        LockedError: another run writes to the folder.
        ConfigError, ModelError: what training raises where something cannot be meant or loaded.
    """
    processes.join(plan.device)
    failures: list[FailedRun] = []
    with ExitStack() as held:
        processes.agreed(lambda: held.enter_context(claimed(plan.folder)))
        processes.agreed(lambda: _begin(plan))
        for method, seed in plan.units:
            try:
                _run_unit(plan, method, seed, on_progress, batch_size)
            except (StoppedError, LockedError, ConfigError, ModelError):  # of what was asked, not of this one's run
                raise
            except Exception as error:
                if processes.count() > 1:  # the others would wait for this one for ever
                    raise
                logger.debug("%s, seed %s, could not be run", method, seed, exc_info=error)
                failures.append(FailedRun(method, f"seed {seed}", error_line(error)))
                _write_failures(plan, failures)
    return failures


def _run_unit(plan: TuningPlan, method: str, seed: int, on_progress: OnProgress, batch_size: int) -> None:
    """Train one method with one seed, and ask it everything."""
    rate = None if method == BASE else _rate(plan, method, on_progress)
    if rate is not None:
        _ensure(plan, method, seed, rate, on_progress)
    _answer(plan, method, seed, rate, on_progress, batch_size)
    if plan.forgetting:
        _measure_abilities(plan, method, seed, rate, on_progress)


def _write_failures(plan: TuningPlan, failures: Sequence[FailedRun]) -> None:
    head = read_head(plan.folder, TuningHead)
    earlier = [failure for failure in head.failures if failure.method not in (BASE, *plan.head.settings)]
    write_head(plan.folder, replace(head, failures=(*earlier, *failures)))


def _rate(plan: TuningPlan, method: str, on_progress: OnProgress) -> float:
    """The method's learning rate; if there is a choice, after a run with each."""
    rates = plan.head.rates or (plan.settings[method, plan.head.seeds[0]].training.learning_rate,)
    seed = plan.head.question_seed  # which stays when seeds of training are added
    if len(rates) > 1:
        for rate in rates:
            _ensure(plan, method, seed, rate, on_progress)
    chosen = chosen_rate(read_records(plan.folder, TrainedUnit), method, seed, rates)
    assert chosen is not None  # each has been tried
    return chosen


def _ensure(plan: TuningPlan, method: str, seed: int, rate: float, on_progress: OnProgress) -> None:
    """Train a unit if it is not there yet."""
    if any(
        (unit.method, unit.seed, unit.learning_rate) == (method, seed, rate)
        for unit in read_records(plan.folder, TrainedUnit)
    ):
        return
    on_progress(_training(method, seed, rate), 0, 1)
    unit = _train(plan, plan.at(method, seed, rate), on_progress)
    if unit is not None:
        with appending(plan.folder, TrainedUnit) as append:
            append(unit)
    processes.wait()


def _training(method: str, seed: int, rate: float) -> str:
    return f"training {method}, seed {seed}, learning rate {rate:g}"


def _begin(plan: TuningPlan) -> None:
    """Write the head, which keeps the methods of an earlier part, and training's records."""
    make_folder(plan.folder)
    head = plan.head
    if (plan.folder / HEAD).exists():
        earlier = read_head(plan.folder, TuningHead)
        head = replace(
            head,
            sources={**earlier.sources, **head.sources},
            asked={**earlier.asked, **head.asked},
            of={**earlier.of, **head.of},
            settings={**earlier.settings, **head.settings},
            seeds=tuple(sorted({*earlier.seeds, *head.seeds})),
            failures=tuple(failure for failure in earlier.failures if failure.method not in (BASE, *head.settings)),
        )
    write_head(plan.folder, head)
    for name, records in ((TRAINING_DATA, plan.lessons), (HELD_OUT_DATA, plan.held_out)):
        if records:
            lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            write_atomically(plan.folder / name, lines.encode())


def _train(plan: TuningPlan, settings: TrainSettings, on_progress: OnProgress) -> TrainedUnit | None:
    resume = processes.agreed(lambda: _can_resume(settings))
    what = _training(settings.method, settings.training.seed, settings.training.learning_rate)
    with measured(processes.join(plan.device)) as cost:
        outcome = train(settings, resume=resume, on_step=lambda at: on_progress(what, at.step, at.total_steps))
    if isinstance(outcome, Interrupted):
        raise StoppedError(
            f"interrupted while {what}, after step {outcome.step} of {outcome.total_steps}; the same command goes on."
        )
    if outcome is None:
        return None
    sizes = dict(outcome.artifacts.bytes)
    delta_bytes = None if (delta := outcome.artifacts.delta) is None else sizes.pop(delta.name)
    return TrainedUnit(
        method=settings.method,
        seed=settings.training.seed,
        learning_rate=settings.training.learning_rate,
        examples=len(plan.lessons) - outcome.left_out,
        steps=outcome.prepared.total_steps,
        seconds=outcome.seconds,
        peak_bytes=cost.peak_bytes,
        trained=outcome.prepared.trainable,
        entries_changed=entries_changed(outcome.prepared, settings),
        file_bytes=sum(sizes.values()),
        delta_bytes=delta_bytes,
        held_out=outcome.metrics,
    )


def _can_resume(settings: TrainSettings) -> bool:
    """Whether a unit goes on from a checkpoint; what a run left that cannot go on, or was not noted, is removed."""
    if not weights_folder(settings).exists() and newest_whole(settings.checkpoints) is not None:
        return True
    shutil.rmtree(settings.output, ignore_errors=True)
    return False


def _answer(
    plan: TuningPlan, method: str, seed: int, rate: float | None, on_progress: OnProgress, batch_size: int
) -> None:
    done = {
        (one.prediction.task, one.prediction.key)
        for one in read_records(plan.folder, Answered)
        if (one.method, one.seed) == (method, seed)
    }
    waiting = {
        name: [question for question in questions if (name, question.key) not in done]
        for name, questions in plan.questions.items()
    }
    if not any(waiting.values()):
        return
    loaded = _trained_model(plan, method, seed, rate)
    for name, questions in waiting.items():
        total, what = len(plan.questions[name]), f"asking {method}, seed {seed}, {name}"
        answered = total - len(questions)
        on_progress(what, answered, total)
        for predictions in _rounds(plan, loaded, name, questions, batch_size):
            if processes.index() == 0:
                with appending(plan.folder, Answered) as append:
                    for prediction in predictions:
                        append(Answered(method, seed, prediction))
            answered += len(predictions)
            on_progress(what, answered, total)
        processes.wait()


def _measure_abilities(plan: TuningPlan, method: str, seed: int, rate: float | None, on_progress: OnProgress) -> None:
    known = read_records(plan.folder, Abilities)
    if any((one.method, one.seed, one.n) == (method, seed, plan.forgetting) for one in known):
        return
    on_progress(f"asking {method}, seed {seed}, what it has kept", 0, 1)
    loaded = _trained_model(plan, method, seed, rate)
    # Every process measures, so that none waits for another longer than the others' network allows.
    found = outcomes(loaded.model, loaded.tokenizer, plan.data_dir, n=plan.forgetting, seed=plan.head.question_seed)
    if processes.index() == 0:
        with appending(plan.folder, Abilities) as append:
            append(Abilities(method, seed, plan.forgetting, {name: tuple(values) for name, values in found.items()}))
    processes.wait()


def _rounds(
    plan: TuningPlan, loaded: LoadedModel, name: str, questions: list[Question], batch_size: int
) -> Iterator[list[Prediction]]:
    """All processes' answers to some questions, each once, round by round; every process takes part in each round."""
    count, index = processes.count(), processes.index()
    ordered = sorted(questions, key=lambda question: question.length)
    size = BATCHES_A_ROUND * batch_size * count
    for start in range(0, len(ordered), size):
        own = shard(ordered[start : start + size], index, count)
        batches = ask(loaded.model, loaded.tokenizer, plan.tasks[name], own, batch_size=batch_size)
        yield gather_object([prediction for batch in batches for prediction in batch])


def _trained_model(plan: TuningPlan, method: str, seed: int, rate: float | None) -> LoadedModel:
    """The model that a unit has saved, on the device that trained it; without a rate the base."""
    device = processes.join(plan.device)
    if rate is None:
        return load(plan.model, device=device, dtype=plan.dtype, quantized=True)
    head, output = head_for(plan.labels), Path(plan.at(method, seed, rate).output)
    torch.manual_seed(seed)  # as in training: what the checkpoint lacks and no adapter saves is drawn alike
    if method == "full":
        return load(output / "model", head=head, device=device, dtype=plan.dtype)
    loaded = load(plan.model, head=head, device=device, dtype=plan.dtype, quantized=True)
    if method == "loreft":
        return replace(loaded, model=load_loreft(loaded.model, output / "adapter"))
    tuned: PreTrainedModel = PeftModel.from_pretrained(  # type: ignore[assignment]
        loaded.model,
        output / "adapter",
        torch_device="cpu",  # where safetensors reads to, whatever the model is on
    )
    return replace(loaded, model=tuned)
