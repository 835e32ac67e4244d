"""The editing benchmark's command: what it would run, and running it into a folder with its report, resumably."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from roselora.bench.methods.edit_method import Method
from roselora.bench.metrics.capability import ability_outcomes, ability_score
from roselora.bench.records.edit_bench_records import EditHead, EditRecord, Mode, RunPart, read_edit_records
from roselora.bench.records.environment import machine, versions
from roselora.bench.records.failed_run import FailedRun
from roselora.bench.records.run_files import BASE, HEAD, appending, read_head, write_head
from roselora.bench.report.edit_report import write_report
from roselora.bench.running.bench_result import BenchResult, reporting_when_stopped
from roselora.bench.running.drawing import drawn
from roselora.bench.running.edit_plan import EditPlan
from roselora.bench.running.edit_run import EditingRun, ResultLog
from roselora.bench.running.eta import OnProgress, RunProgress
from roselora.bench.running.method_settings import as_plain
from roselora.bench.running.resumption import require_same_run, require_same_settings
from roselora.bench.tasks.edit_case import EditCase, deduplicate
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.errors import ConfigError
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import LoadedModel
from roselora.training.output_folder import claimed

SAME_IN_ONE_FOLDER = ("model_sha256", "dataset", "data_sha256", "mode", "seed", "skip", "fluency")
"""Fields of the head that all runs into one folder have in common."""


@dataclass(frozen=True)
class EditBenchRequest:
    """What the user asks for.

    Attributes:
        dataset: a name of ``tasks.edit_datasets``; ``data_dir``: where its files are, or None for the hub.
        methods: by name.
        mode: see :class:`~roselora.bench.running.edit_plan.EditPlan`.
        n: how many cases, or None for all.
        seed: of the choice of cases.
        folder: for records, checkpoints and reports.
        fluency: whether 100 tokens are generated for each case.
        capability: how many questions of each task of general ability are asked, of the base and after each method's
            sequence.
        seconds: after how long the run stops, to be resumed; None is never.
        command: the command line that repeats the run.
        skip: how many cases of the seed's order to pass over, so that no case of an earlier draw is drawn again.
    """

    dataset: str
    data_dir: Path | None
    methods: Mapping[str, Method]
    mode: Mode
    n: int | None
    seed: int
    folder: Path
    fluency: bool
    capability: int
    seconds: float | None
    command: str
    skip: int = 0


def check_output(folder: Path) -> None:
    """Refuse, before anything is loaded, a folder that cannot be created or written.

    Raises:
        ConfigError: it cannot.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(f"{folder} cannot be written: {there} is no folder that you may write to; name another.")


def make_plan(request: EditBenchRequest, loaded: LoadedModel) -> tuple[EditPlan, EditHead]:
    """What will be run, with the head that describes it; nothing is written.

    Raises:
        ConfigError: the data cannot be read or holds too few cases, or the folder holds another run.
    """
    if request.capability and request.mode == "single":
        raise ConfigError("Capability is measured after all edits: ask for it with --mode sequential or batch.")
    if request.capability and request.data_dir is None:
        raise ConfigError("Capability reads its questions from --data-dir: name the folder.")
    data = read_cases(request.dataset, request.data_dir)
    unique = deduplicate(data.cases)
    if not unique.cases:
        raise ConfigError(f"{data.file} holds no cases of {request.dataset}.")
    cases = _drawn_cases(request, unique.cases)
    plan = EditPlan(cases, request.methods, request.mode, request.folder, request.fluency)
    part = RunPart(request.command, tuple(request.methods), versions(), machine(loaded.model.device))
    head = EditHead(
        parts=(part,),
        model=Path(loaded.name).name if Path(loaded.name).exists() else loaded.name,
        model_sha256=fingerprint(loaded.model),
        dataset=request.dataset,
        data_file=data.file,
        data_sha256=data.sha256,
        mode=request.mode,
        n=len(cases),
        skip=request.skip,
        skipped=(*unique.repeated, *unique.conflicting, *data.left_out),
        seed=request.seed,
        fluency=request.fluency,
        methods={name: as_plain(method.config) for name, method in request.methods.items()},
        requests_per_call={name: plan.requests_per_call(name) for name in request.methods},
    )
    return plan, _joined(head, plan, bool(request.capability))


def described(plan: EditPlan, head: EditHead) -> dict[str, Any]:
    """What a plan would run, for a dry run."""
    waiting = plan.waiting(read_edit_records(plan.folder))
    return {
        "dry_run": True,
        "dataset": head.dataset,
        "mode": head.mode,
        "cases": head.n,
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
        StoppedError: the time is over, or the run was interrupted; the same command resumes it.
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
            run.read_texts()  # what cannot be read is refused before the head says that it was used
            keeper.measure_capability(BASE)
            keeper.write()
            run.run()
        records = read_edit_records(folder)
    failures = [failure for failure in keeper.head.failures if failure.method in request.methods]
    return BenchResult(write_report(keeper.head, records, folder), failures), keeper.head, records


def _drawn_cases(request: EditBenchRequest, cases: Sequence[EditCase]) -> tuple[EditCase, ...]:
    left = len(cases) - request.skip
    if left < 1:
        raise ConfigError(f"skip must be below {len(cases)}, the cases of {request.dataset}, not {request.skip}.")
    if request.n is not None and not 1 <= request.n <= left:
        after = f" after the first {request.skip}" if request.skip else ""
        raise ConfigError(f"n must be within 1 and {left}, the cases of {request.dataset}{after}, not {request.n}.")
    return tuple(drawn(cases, request.n, request.seed, request.skip))


class _HeadKeeper:
    """Keeps a run's head up to date, in its file too."""

    def __init__(self, request: EditBenchRequest, loaded: LoadedModel, head: EditHead, on_progress: OnProgress) -> None:
        self._request, self._loaded, self._on_progress = request, loaded, on_progress
        self.head = head

    def write(self) -> None:
        """Write the head as it is now."""
        write_head(self._request.folder, self.head)

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


def _joined(head: EditHead, plan: EditPlan, capability_asked: bool) -> EditHead:
    """The head of a folder that may hold an earlier part of the same run.

    Methods may be added, and more cases to single edits; everything else must be the same.
    """
    folder = plan.folder
    if not (folder / HEAD).exists():
        if (folder / EditRecord.FILE).exists():
            raise ConfigError(f"{folder} holds records without the {HEAD} that describes them; name another folder.")
        return head
    before = read_head(folder, EditHead)
    recorded = {record.method for record in read_edit_records(folder)}
    begun = recorded | {name for name in head.methods if plan.checkpoint(name).exists()}
    require_same_run(folder, before, head, SAME_IN_ONE_FOLDER)
    if head.mode != "single" and before.n != head.n:
        raise ConfigError(f"{folder} holds a {head.mode} run of {before.n} edits; name another folder for {head.n}.")
    require_same_settings(folder, {name: before.methods.get(name) for name in begun}, head.methods)
    if capability_asked and (late := [name for name in head.methods if name in recorded - before.capability.keys()]):
        raise ConfigError(
            f"The edits of {late[0]} in {folder} are scored and undone, so its capability cannot be measured any more; "
            "name another folder, or leave --capability out."
        )
    return replace(
        head,
        parts=(*(part for part in before.parts if part not in head.parts), *head.parts),
        n=max(head.n, before.n),
        methods={**before.methods, **head.methods},
        requests_per_call={**before.requests_per_call, **head.requests_per_call},
        entries=before.entries,
        capability=before.capability,
        failures=tuple(failure for failure in before.failures if failure.method not in head.methods),
    )
