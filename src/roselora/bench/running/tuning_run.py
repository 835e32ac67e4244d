"""Train every method with every seed, and ask each trained model every question, resumably."""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import gather_object  # type: ignore[attr-defined]
from peft import PeftModel
from transformers import PreTrainedModel

from roselora.bench.metrics.capability import ability_outcomes
from roselora.bench.metrics.cost import measured
from roselora.bench.metrics.learning_rate_choice import chosen_rate
from roselora.bench.records.failed_run import FailedRun, error_line
from roselora.bench.records.run_files import BASE, HEAD, appending, read_head, read_records, write_head
from roselora.bench.records.tuning_bench_records import Abilities, Answered, TrainedUnit, TuningHead
from roselora.bench.running.eta import OnProgress, RunProgress
from roselora.bench.running.task_answers import ask, shard
from roselora.bench.running.tuning_plan import TRAINING_DATA, VALIDATION_DATA, TuningPlan
from roselora.bench.tasks.task import Prediction, Question
from roselora.errors import ConfigError, ModelError, StoppedError
from roselora.files import make_folder, write_atomically
from roselora.models.loading import LoadedModel, load
from roselora.models.task_heads import head_for
from roselora.training import processes
from roselora.training.checkpoints import newest_whole
from roselora.training.footprint import entries_changed
from roselora.training.loreft import load_loreft
from roselora.training.output_folder import claimed, weights_folder
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import Interrupted, train
from roselora.writer_lock import LockedError

logger = logging.getLogger(__name__)

BATCHES_A_ROUND = 4
"""Batches that each process answers before the answers are gathered and written."""


def run(plan: TuningPlan, on_progress: OnProgress, *, batch_size: int = 16) -> list[FailedRun]:
    """Do what the folder does not hold yet.

    Of several processes that `accelerate launch` has started, each trains on its share of every batch and answers its
    share of the questions; only the main one writes.

    Returns:
        What could not be trained or asked, because of a bug or too little memory; the other methods are complete, and
        the same command tries these again.

    Raises:
        StoppedError: a training run was interrupted; the same command resumes it.
        LockedError: another run writes to the folder.
        ConfigError, ModelError: the request itself cannot be trained or loaded.
    """
    processes.join(plan.device)
    failures: list[FailedRun] = []
    with ExitStack() as stack:
        processes.agreed(lambda: stack.enter_context(claimed(plan.folder)))
        processes.agreed(lambda: _begin(plan))
        runner = _Runner(plan, on_progress, batch_size)
        for method, seed in plan.units:
            try:
                runner.run_unit(method, seed)
            except (StoppedError, LockedError, ConfigError, ModelError):
                raise
            except Exception as error:
                if processes.count() > 1:  # the others would wait for this one for ever
                    raise
                logger.debug("%s, seed %s, could not be run", method, seed, exc_info=error)
                failures.append(FailedRun(method, f"seed {seed}", error_line(error)))
                head = read_head(plan.folder, TuningHead)
                write_head(plan.folder, replace(head, failures=(*head.failures, failures[-1])))
    return failures


def _begin(plan: TuningPlan) -> None:
    """Write the head, which keeps what earlier runs into the folder added, and the training data."""
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
    for name, examples in ((TRAINING_DATA, plan.data.training), (VALIDATION_DATA, plan.data.validation)):
        if examples:
            lines = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
            write_atomically(plan.folder / name, lines.encode())


class _Runner:
    """Runs the units of a plan, each a method with a seed, in a folder that this process may write to."""

    def __init__(self, plan: TuningPlan, on_progress: OnProgress, batch_size: int) -> None:
        self._plan, self._on_progress, self._batch_size = plan, on_progress, batch_size

    def run_unit(self, method: str, seed: int) -> None:
        """Train one method with one seed, unless it is the untrained model, and ask it everything."""
        rate = None if method == BASE else self._learning_rate(method)
        if rate is not None:
            self._train(method, seed, rate)
        self._answer(method, seed, rate)
        if self._plan.request.forgetting:
            self._measure_abilities(method, seed, rate)

    def _learning_rate(self, method: str) -> float:
        """The method's learning rate; of several the one that does best, after a training run with each."""
        plan = self._plan
        rates = plan.head.rates or (plan.settings[method].training.learning_rate,)
        seed = plan.head.question_seed  # training seeds may be added later, and must not change the choice
        if len(rates) > 1:
            for rate in rates:
                self._train(method, seed, rate)
        chosen = chosen_rate(read_records(plan.folder, TrainedUnit), method, seed, rates)
        assert chosen is not None  # each has been tried
        return chosen

    def _train(self, method: str, seed: int, rate: float) -> None:
        """Train a unit that has not been trained yet."""
        plan, doing = self._plan, f"training {method}, seed {seed}, learning rate {rate:g}"
        trained = read_records(plan.folder, TrainedUnit)
        if any((unit.method, unit.seed, unit.learning_rate) == (method, seed, rate) for unit in trained):
            return
        self._on_progress(RunProgress(doing, 0, 1))
        settings = plan.at(method, seed, rate)
        resume = processes.agreed(lambda: _can_resume(settings))
        with measured(processes.join(plan.device)) as cost:
            outcome = train(
                settings,
                resume=resume,
                on_step=lambda at: self._on_progress(RunProgress(doing, at.step, at.total_steps)),
            )
        if isinstance(outcome, Interrupted):
            raise StoppedError(
                f"interrupted while {doing}, after step {outcome.step} of {outcome.total_steps}; the same command "
                "resumes it."
            )
        if outcome is not None:  # it is None in all processes but the main one
            sizes = dict(outcome.artifacts.bytes)
            delta_bytes = None if (delta := outcome.artifacts.delta) is None else sizes.pop(delta.name)
            with appending(plan.folder, TrainedUnit) as append:
                append(
                    TrainedUnit(
                        method=method,
                        seed=seed,
                        learning_rate=rate,
                        examples=len(plan.data.training) - outcome.left_out,
                        steps=outcome.prepared.total_steps,
                        seconds=outcome.seconds,
                        peak_bytes=cost.peak_bytes,
                        trained=outcome.prepared.trainable,
                        entries_changed=entries_changed(outcome.prepared, settings),
                        file_bytes=sum(sizes.values()),
                        delta_bytes=delta_bytes,
                        held_out=outcome.metrics,
                    )
                )
        processes.wait()

    def _answer(self, method: str, seed: int, rate: float | None) -> None:
        """Ask a trained model every question that it has not answered yet."""
        plan = self._plan
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
        with ExitStack() as stack:
            append = stack.enter_context(appending(plan.folder, Answered)) if processes.index() == 0 else None
            for name, questions in waiting.items():
                total, doing = len(plan.questions[name]), f"asking {method}, seed {seed}, {name}"
                answered = total - len(questions)
                self._on_progress(RunProgress(doing, answered, total))
                for predictions in self._rounds(loaded, name, questions):
                    if append is not None:
                        for prediction in predictions:
                            append(Answered(method, seed, prediction))
                    answered += len(predictions)
                    self._on_progress(RunProgress(doing, answered, total))
                processes.wait()

    def _rounds(self, loaded: LoadedModel, name: str, questions: Sequence[Question]) -> Iterator[list[Prediction]]:
        """All processes' answers, each once, round by round; every process takes part in every round."""
        count, index = processes.count(), processes.index()
        ordered = sorted(questions, key=lambda question: question.length)
        size = BATCHES_A_ROUND * self._batch_size * count
        for start in range(0, len(ordered), size):
            own = shard(ordered[start : start + size], index, count)
            batches = ask(loaded.model, loaded.tokenizer, self._plan.tasks[name], own, batch_size=self._batch_size)
            yield gather_object([prediction for batch in batches for prediction in batch])

    def _measure_abilities(self, method: str, seed: int, rate: float | None) -> None:
        """Measure once what a trained model can do outside its training task."""
        plan, n = self._plan, self._plan.request.forgetting
        known = read_records(plan.folder, Abilities)
        if any((one.method, one.seed, one.n) == (method, seed, n) for one in known):
            return
        self._on_progress(RunProgress(f"asking {method}, seed {seed}, about other tasks", 0, 1))
        loaded = _trained_model(plan, method, seed, rate)
        # Every process measures, so that none waits for another longer than the network between them allows.
        found = ability_outcomes(
            loaded.model, loaded.tokenizer, plan.request.data_dir, n=n, seed=plan.head.question_seed
        )
        if processes.index() == 0:
            with appending(plan.folder, Abilities) as append:
                append(Abilities(method, seed, n, {name: tuple(values) for name, values in found.items()}))
        processes.wait()


def _can_resume(settings: TrainSettings) -> bool:
    """Whether a training run has a whole checkpoint to resume from; without one, what a run left is removed."""
    if not weights_folder(settings).exists() and newest_whole(settings.checkpoints) is not None:
        return True
    shutil.rmtree(settings.output, ignore_errors=True)
    return False


def _trained_model(plan: TuningPlan, method: str, seed: int, rate: float | None) -> LoadedModel:
    """The model that a training run has saved; without a learning rate the untrained one."""
    device, model = processes.join(plan.device), plan.request.model
    if rate is None:
        return load(model, device=device, dtype=plan.dtype, quantized=True)
    head, output = head_for(plan.labels), Path(plan.at(method, seed, rate).output)
    torch.manual_seed(seed)  # as in training, so that weights which nothing saves are drawn alike
    if method == "full":
        return load(output / "model", head=head, device=device, dtype=plan.dtype)
    loaded = load(model, head=head, device=device, dtype=plan.dtype, quantized=True)
    if method == "loreft":
        return replace(loaded, model=load_loreft(loaded.model, output / "adapter"))
    tuned: PreTrainedModel = PeftModel.from_pretrained(  # type: ignore[assignment]
        loaded.model,
        output / "adapter",
        torch_device="cpu",  # where safetensors reads to, whatever the model is on
    )
    return replace(loaded, model=tuned)
