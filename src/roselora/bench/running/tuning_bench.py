"""The fine-tuning benchmarks' commands: what a command would run, and running it with its report."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from roselora.bench.metrics.judge import Judge, judge_answers
from roselora.bench.metrics.likelihood import measure_likelihoods
from roselora.bench.records.alpaca_eval import alpaca_eval_outputs
from roselora.bench.records.failed_run import FailedRun
from roselora.bench.records.run_files import HEAD, read_records
from roselora.bench.records.tuning_bench_records import Answered
from roselora.bench.report.joined_report import write_joined_report
from roselora.bench.report.tuning_report import write_tuning_report
from roselora.bench.running.bench_result import BenchResult, reporting_when_stopped
from roselora.bench.running.eta import OnProgress, RunProgress
from roselora.bench.running.tuning_plan import TuningPlan, TuningRequest
from roselora.bench.running.tuning_run import run
from roselora.bench.tasks.glue import PROTOCOL, SETS
from roselora.bench.tasks.instruct import read_references
from roselora.errors import ConfigError
from roselora.files import write_atomically
from roselora.models.loading import load
from roselora.training import processes


def glue_parts(request: TuningRequest, sets: Sequence[str] | None) -> list[TuningRequest]:
    """A request for each of GLUE's sets, in a folder of its own; None for all sets.

    Raises:
        ConfigError: an unknown set, or none.
    """
    names = tuple(SETS) if sets is None else sets
    if unknown := [name for name in names if name not in SETS]:
        raise ConfigError(f"GLUE has no set {unknown[0]!r} here: name some of {', '.join(SETS)}.")
    if not names:
        raise ConfigError(f"There is no set to train on: name some of {', '.join(SETS)}.")
    _refuse_a_run(request.folder)
    return [
        replace(request, benchmark=f"glue/{name}", protocol=PROTOCOL, folder=request.folder / name) for name in names
    ]


def share_parts(request: TuningRequest, percentages: Sequence[float]) -> list[TuningRequest]:
    """A request for each share of the training examples, in per cent, in a folder of its own.

    Raises:
        ConfigError: a share above 100 per cent, or none.
    """
    if not percentages:
        raise ConfigError("--shares names no share: name some, such as 12.5,25,50,100.")
    if (most := max(percentages)) > 100:
        raise ConfigError(f"--shares has {most:g}: a share is at most 100 per cent.")
    _refuse_a_run(request.folder)
    return [replace(request, share=share / 100, folder=request.folder / f"{share:g}%") for share in percentages]


def _refuse_a_run(folder: Path) -> None:
    """Refuse a folder that is a run itself, whose report the one on all parts would replace."""
    if (folder / HEAD).exists():
        raise ConfigError(f"{folder} holds another benchmark's run; name another folder.")


def described(plan: TuningPlan) -> dict[str, Any]:
    """What a plan would run, for a dry run."""
    head = plan.head
    return {
        "dry_run": True,
        "benchmark": head.benchmark,
        "protocol": head.protocol,
        "questions": dict(head.asked),
        "training": head.training,
        "training_records": len(plan.data.training),
        "runs": [f"{method}, seed {seed}" for method, seed in plan.units],
        "learning_rates_to_choose_from": list(head.rates) if len(head.rates) > 1 else [],
        "output": str(plan.folder),
    }


def run_tuning(plan: TuningPlan, on_progress: OnProgress, *, batch_size: int) -> BenchResult | None:
    """Run one benchmark and write its report, also when it is stopped; None in processes other than the main one.

    Raises:
        StoppedError: the run was stopped; the same command resumes it.
    """
    return _run([plan], plan.folder, lambda: write_tuning_report(plan.folder), on_progress, batch_size)


def run_parts(
    plans: Sequence[TuningPlan], title: str, on_progress: OnProgress, *, batch_size: int
) -> BenchResult | None:
    """Run the parts of a benchmark, and report on all parts that the folder above them holds; else as `run_tuning`."""
    folder = plans[0].folder.parent
    return _run(plans, folder, lambda: write_joined_report(folder, title), on_progress, batch_size)


def run_instruct(
    plan: TuningPlan, judge: Judge | None, on_progress: OnProgress, *, batch_size: int
) -> BenchResult | None:
    """Run the instruction benchmark and compare all answers with the references; else as `run_tuning`.

    Args:
        judge: compares them; without one the untrained model says which is likelier.
    """
    assert plan.request.data_dir is not None
    references = read_references(plan.request.data_dir)

    def compare() -> None:
        answers = read_records(plan.folder, Answered)
        if judge is not None:
            judge_answers(plan.folder, answers, references, judge, _counted("judging answers", on_progress))
            return
        (questions,) = plan.questions.values()
        loaded = load(plan.request.model, device=processes.join(plan.device), dtype=plan.dtype, quantized=True)
        on_compared = _counted("comparing the likelihood of answers", on_progress)
        measure_likelihoods(plan.folder, answers, questions, loaded.model, loaded.tokenizer, on_compared)

    def report() -> list[Path]:
        files, folder = write_tuning_report(plan.folder), plan.folder / "outputs"
        folder.mkdir(exist_ok=True)
        answers = read_records(plan.folder, Answered)
        for method, seed in dict.fromkeys((answer.method, answer.seed) for answer in answers):
            own = [answer for answer in answers if (answer.method, answer.seed) == (method, seed)]
            outputs = alpaca_eval_outputs(own, references, f"{plan.head.model}, {method}, seed {seed}")
            files.append(folder / f"{method}-{seed}.json")
            write_atomically(files[-1], json.dumps(outputs, ensure_ascii=False, indent=2).encode() + b"\n")
        return files

    return _run([plan], plan.folder, report, on_progress, batch_size, compare)


def _run(
    plans: Sequence[TuningPlan],
    folder: Path,
    write_report: Callable[[], list[Path]],
    on_progress: OnProgress,
    batch_size: int,
    compare: Callable[[], None] | None = None,
) -> BenchResult | None:
    """Run plans one after another; the main process then compares the answers and writes the report."""

    def report_so_far() -> None:
        if any((plan.folder / HEAD).exists() for plan in plans) and processes.index() == 0:
            write_report()

    failures: list[FailedRun] = []
    with reporting_when_stopped(folder, report_so_far):
        for plan in plans:
            prefix = f"{plan.folder.name}: " if len(plans) > 1 else ""
            failures += run(plan, _prefixed(on_progress, prefix), batch_size=batch_size)
        if compare is not None and processes.index() == 0:
            compare()
    return BenchResult(write_report(), failures) if processes.index() == 0 else None


def _prefixed(on_progress: OnProgress, prefix: str) -> OnProgress:
    return lambda at: on_progress(replace(at, doing=prefix + at.doing))


def _counted(doing: str, on_progress: OnProgress) -> Callable[[int, int], None]:
    return lambda done, of: on_progress(RunProgress(doing, done, of))
