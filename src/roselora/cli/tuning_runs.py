"""Run planned fine-tuning benchmarks with a bar, or show what would be run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from roselora.cli.console import complain, err, print_json, saying, tell, working
from roselora.errors import ConfigError, StoppedError
from roselora.escaping import visible

if TYPE_CHECKING:
    from roselora.bench.records.failed_run import FailedRun
    from roselora.bench.running.tuning_plan import TuningPlan

WriteReport = Callable[[], list[Path]]
OnProgress = Callable[[str, int, int], None]


def planned(wanted: Sequence[dict[str, Any]]) -> "list[TuningPlan]":
    """The plans of some wishes, each the arguments of a ``TuningRequest``; torch is imported only now.

    Raises:
        ConfigError: a name, file or value that cannot be meant, or what the benchmarks need is not installed.
    """
    with working("reading data and model"):
        try:
            from roselora.bench.running.tuning_plan import TuningRequest, make_plan
        except ModuleNotFoundError as error:
            raise ConfigError(f"The benchmark needs {error.name}: pip install 'roselora[train,bench]'.") from None
        return [make_plan(TuningRequest(**one)) for one in wanted]


def run_one(wanted: dict[str, Any], batch_size: int, dry_run: bool, json: bool) -> None:
    """One benchmark in one folder with its own report, or what it would do; raises as :func:`execute` does."""
    plans = planned([wanted])
    if dry_run:
        show(plans, json)
        return
    from roselora.bench.report.tuning_report import write_tuning_report

    execute(plans, lambda: write_tuning_report(plans[0].folder), batch_size, json)


def execute(
    plans: "Sequence[TuningPlan]",
    write_report: WriteReport,
    batch_size: int,
    json: bool,
    compare: Callable[[], None] | None = None,
) -> None:
    """Run them one after another and write the report, also of what there is when the run is stopped.

    Args:
        compare: what the main process does with all answers before the report.

    Raises:
        StoppedError: the run was interrupted; the same command goes on with it.
        typer.Exit: a method could not be run; the report is written.
    """
    from roselora.bench.running.tuning_run import run
    from roselora.training import processes

    folder = plans[0].folder if len(plans) == 1 else plans[0].folder.parent
    failures: list[FailedRun] = []
    try:
        with _progress() as on_progress:
            for plan in plans:
                prefix = f"{plan.folder.name}: " if len(plans) > 1 else ""
                failures += run(plan, _prefixed(on_progress, prefix), batch_size=batch_size)
        if compare is not None and processes.index() == 0:
            compare()
    except (StoppedError, KeyboardInterrupt) as stop:
        reason = str(stop) or "interrupted; the same command goes on with it."
        if any((plan.folder / "head.json").exists() for plan in plans) and processes.index() == 0:
            write_report()
        raise StoppedError(f"{reason} What was done is in {folder}.") from None
    if processes.index() != 0:
        return
    show_written(write_report(), failures, json)


def show_written(paths: Sequence[Path], failures: "Sequence[FailedRun]", json: bool) -> None:
    """The files that a benchmark has written, and what it could not run, for which it exits with 1."""
    if json:
        print_json({"files": [str(path) for path in paths], "failed": [asdict(one) for one in failures]})
    else:
        for path in paths:
            tell(f"wrote {path}")
    for one in failures:
        complain(f"{one.method}, {one.at}, could not be run ({one.error}); the same command tries it again.")
    if failures:
        raise typer.Exit(1)


def _prefixed(on_progress: OnProgress, prefix: str) -> OnProgress:
    return lambda doing, done, of: on_progress(prefix + doing, done, of)


def show(plans: "Sequence[TuningPlan]", json: bool) -> None:
    """What would be done."""
    shown = [_described(plan) for plan in plans]
    if json:
        print_json(shown[0] if len(shown) == 1 else {"dry_run": True, "parts": shown})
        return
    for one in shown:
        for name, value in one.items():
            tell(f"{name.replace('_', ' ')}: {value}")


def _described(plan: "TuningPlan") -> dict[str, Any]:
    head = plan.head
    return {
        "dry_run": True,
        "benchmark": head.benchmark,
        "protocol": head.protocol,
        "questions": dict(head.asked),
        "training": head.training,
        "training_records": len(plan.lessons),
        "runs": [f"{method}, seed {seed}" for method, seed in plan.units],
        "learning_rates_to_choose_from": list(head.rates) if len(head.rates) > 1 else [],
        "output": str(plan.folder),
    }


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """On standard error: a bar with what is done, or lines where it is no terminal."""
    if not err.is_terminal:
        say = saying()
        yield lambda doing, done, of: say(f"{doing}: {done}/{of}")
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("loading", total=None)
        doing_now = ""

        def draw(doing: str, done: int, of: int) -> None:
            nonlocal doing_now
            if doing != doing_now:
                bar.reset(task)  # so that the time that is left is this part's
                doing_now = doing
            bar.update(task, description=visible(doing), completed=done, total=of)

        yield draw
