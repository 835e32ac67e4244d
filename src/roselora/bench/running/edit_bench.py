"""The editing benchmark's command: what it would run, and running it into a folder with its report, resumably."""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from roselora.bench.metrics.capability import ability_outcomes, ability_score
from roselora.bench.records.edit_bench_records import EditHead, EditRecord, read_edit_records
from roselora.bench.records.failed_run import FailedRun
from roselora.bench.records.run_files import BASE, HEAD, appending, read_head, write_head
from roselora.bench.report.edit_report import write_report
from roselora.bench.running.bench_result import BenchResult, reporting_when_stopped
from roselora.bench.running.edit_plan import EditBenchRequest, EditPlan
from roselora.bench.running.edit_run import EditingRun, ResultLog
from roselora.bench.running.eta import OnProgress, RunProgress
from roselora.errors import ConfigError
from roselora.models.loading import LoadedModel
from roselora.training.output_folder import claimed


def check_output(folder: Path) -> None:
    """Refuse, before anything is loaded, a folder that cannot be created or written.

    Raises:
        ConfigError: it cannot.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(f"{folder} cannot be written: {there} is no folder that you may write to; name another.")


def described(plan: EditPlan, head: EditHead) -> dict[str, Any]:
    """What a plan would run, for a dry run."""
    waiting = plan.waiting(read_edit_records(plan.folder))
    return {
        "dry_run": True,
        "dataset": head.dataset,
        "mode": head.mode,
        "cases": head.n,
        "forms": head.forms,
        "output": str(plan.folder),
        "edits_to_make": waiting,
        "settings": {name: head.methods[name] for name in waiting},
    }


def run_edit_bench(
    request: EditBenchRequest, loaded: LoadedModel, plan: EditPlan, head: EditHead, on_progress: OnProgress
) -> tuple[BenchResult, EditHead, list[EditRecord]]:
    """Make every edit that the folder holds no record of, and write the report, also when the run is stopped.

    Returns:
        The result, the head as it is now, and every record of the folder, old and new.

    Raises:
        StoppedError: the time budget is used up, or the run was interrupted; the same command resumes it.
        FileFormatError: the folder's records are damaged.
    """
    folder = request.folder

    def report_so_far() -> None:
        if (folder / HEAD).exists() and (records := read_edit_records(folder)):
            write_report(read_head(folder, EditHead), records, folder)

    with reporting_when_stopped(folder, report_so_far):
        with claimed(folder), appending(folder, EditRecord) as write:
            keeper = _HeadKeeper(request, loaded, head, on_progress)
            log = ResultLog(read_edit_records(folder), write, keeper.all_edited, keeper.fail)
            run = EditingRun(loaded.model, loaded.tokenizer, plan, log, on_progress, request.seconds)
            keeper.prepared(run.read_texts())  # what cannot be read is refused before the head says that it was used
            keeper.measure_capability(BASE)
            keeper.write()
            run.run()
        records = read_edit_records(folder)
    failures = [failure for failure in keeper.head.failures if failure.method in request.methods]
    return BenchResult(write_report(keeper.head, records, folder), failures), keeper.head, records


class _HeadKeeper:
    """Keeps a run's head up to date, in its file too."""

    def __init__(self, request: EditBenchRequest, loaded: LoadedModel, head: EditHead, on_progress: OnProgress) -> None:
        self._request, self._loaded, self._on_progress = request, loaded, on_progress
        self.head = head

    def write(self) -> None:
        """Write the head as it is now."""
        write_head(self._request.folder, self.head)

    def prepared(self, seconds: Mapping[str, float]) -> None:
        """Note what it took to prepare each method, unless an earlier part of the run has noted it."""
        self.head = replace(self.head, preparation_seconds={**seconds, **self.head.preparation_seconds})

    def all_edited(self, name: str, entries: int) -> None:
        """Note how many entries a method's edits have changed together and, if asked for, the capability now."""
        self.head = replace(self.head, entries={**self.head.entries, name: entries})
        self.measure_capability(name)
        self.write()

    def measure_capability(self, name: str) -> None:
        """Measure it once under this name, if it is asked for."""
        request = self._request
        if request.capability and name not in self.head.capability:
            self._on_progress(RunProgress(f"capability, {name}"))
            outcomes = ability_outcomes(
                self._loaded.model, self._loaded.tokenizer, request.data_dir, n=request.capability, seed=request.seed
            )
            measured = {figure: asdict(ability_score(figure, own)) for figure, own in outcomes.items()}
            self.head = replace(self.head, capability={**self.head.capability, name: measured})

    def fail(self, failure: FailedRun) -> None:
        """Note what could not be run."""
        self.head = replace(self.head, failures=(*self.head.failures, failure))
        self.write()
