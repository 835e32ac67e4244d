"""The editing benchmark from settings to records: data, model, methods, and a folder that a run can be resumed from."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from roselora.bench.methods.edit_method import Method
from roselora.bench.metrics.capability import capability
from roselora.bench.metrics.case_scoring import CaseScorer
from roselora.bench.records.edit_bench_records import EditHead, EditRecord, Mode, RunPart, read_edit_records
from roselora.bench.records.environment import machine, versions
from roselora.bench.records.failed_run import FailedRun
from roselora.bench.records.run_files import BASE, HEAD, appending, read_head, write_head
from roselora.bench.running.edit_run import EditingRun, EditPlan, choose
from roselora.bench.running.eta import Clock, Progress
from roselora.bench.running.method_settings import as_plain
from roselora.bench.running.stream_checkpoint import checkpoint_file
from roselora.bench.tasks.edit_case import deduplicate
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.errors import ConfigError
from roselora.files import make_folder, writer_lock
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import LoadedModel

LOCK = "run.lock"


@dataclass(frozen=True)
class EditBench:
    """One run of the editing benchmark.

    Attributes:
        dataset: a name of ``evaluation.datasets``; ``data_dir``: where its files are, or None for the hub.
        methods: by name.
        mode: see :class:`~roselora.bench.running.edit_run.EditPlan`.
        n: how many cases, or None for all.
        seed: of the choice of cases.
        skip: how many cases of the seed's order are passed over, so that they are none of an earlier draw's.
        folder: where records, checkpoints and reports go.
        fluency: whether 100 tokens are generated for each case.
        capability: questions of each task of general ability, asked of the base and after each method's sequence.
        seconds: after how long the run stops, to be resumed; None is never.
        command: the command line that repeats the run.
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


def prepare(bench: EditBench, loaded: LoadedModel) -> tuple[EditPlan, EditHead]:
    """What will be run, with the head that describes it; nothing is written.

    Raises:
        ConfigError: the data cannot be read, holds fewer cases than asked for, or the folder holds another run.
    """
    if bench.capability and bench.mode == "single":
        raise ConfigError("Capability is measured after all edits: ask for it with --mode sequential or batch.")
    if bench.capability and bench.data_dir is None:
        raise ConfigError("Capability reads its questions from --data-dir: name the folder.")
    data = read_cases(bench.dataset, bench.data_dir)
    unique = deduplicate(data.cases)
    if not unique.cases:
        raise ConfigError(f"{data.file} holds no cases of {bench.dataset}.")
    left = len(unique.cases) - bench.skip
    if left < 1:
        raise ConfigError(f"skip must be below {len(unique.cases)}, the cases of {bench.dataset}, not {bench.skip}.")
    if bench.n is not None and not 1 <= bench.n <= left:
        after = f" after the first {bench.skip}" if bench.skip else ""
        raise ConfigError(f"n must be within 1 and {left}, the cases of {bench.dataset}{after}, not {bench.n}.")
    cases = choose(unique.cases, bench.n, bench.seed, bench.skip)
    plan = EditPlan(cases, bench.methods, bench.mode, bench.folder)
    head = EditHead(
        parts=(
            RunPart(
                command=bench.command,
                methods=tuple(bench.methods),
                versions=versions(),
                machine=machine(loaded.model.device),
            ),
        ),
        model=Path(loaded.name).name if Path(loaded.name).exists() else loaded.name,
        model_sha256=fingerprint(loaded.model),
        dataset=bench.dataset,
        data_file=data.file,
        data_sha256=data.sha256,
        mode=bench.mode,
        n=len(cases),
        skip=bench.skip,
        skipped=(*unique.repeated, *unique.conflicting, *data.left_out),
        seed=bench.seed,
        fluency=bench.fluency,
        methods={name: as_plain(method.config) for name, method in bench.methods.items()},
        requests_per_call={name: _per_call(method, bench.mode) for name, method in bench.methods.items()},
    )
    return plan, _joined(head, bench.folder, bool(bench.capability))


def run(
    bench: EditBench, loaded: LoadedModel, plan: EditPlan, head: EditHead, on_progress: Callable[[Progress], None]
) -> tuple[EditHead, list[EditRecord]]:
    """Make every edit that the folder holds no record of; the head, with capability, and every record, old and new.

    Raises:
        StoppedError: the time is over; what was done is kept.
        FileFormatError: the folder's records are damaged.
    """
    _make(bench.folder)
    with writer_lock(bench.folder / LOCK):
        diary = _Diary(bench, loaded, head, on_progress)
        judge = CaseScorer(loaded.model, loaded.tokenizer, fluency=bench.fluency)
        known = read_edit_records(bench.folder)
        with appending(bench.folder, EditRecord) as write:
            made = EditingRun(
                loaded.model,
                loaded.tokenizer,
                plan,
                judge,
                known,
                write,
                on_progress,
                Clock(bench.seconds),
                diary.note,
                diary.fail,
            )
            made.read_texts()  # what cannot be read is refused before the head says that it was used
            diary.note(BASE)
            made.run()
        return diary.head, read_edit_records(bench.folder)


def report_so_far(folder: Path) -> tuple[EditHead, list[EditRecord]] | None:
    """The head and the records of a run that was stopped, or None if it has no records yet."""
    records = read_edit_records(folder) if (folder / HEAD).exists() else []
    return (read_head(folder, EditHead), records) if records else None


def check_output(folder: Path) -> None:
    """Refuse, before anything is loaded, a folder that cannot be made or written.

    Raises:
        ConfigError: so it is.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(f"{folder} cannot be written: {there} is no folder that you may write to; name another.")


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror}); name another folder.") from None


class _Diary:
    """Keeps the head of a run up to date, on the disk too."""

    def __init__(
        self, bench: EditBench, loaded: LoadedModel, head: EditHead, on_progress: Callable[[Progress], None]
    ) -> None:
        self._bench, self._loaded, self._on_progress = bench, loaded, on_progress
        self.head = head

    def note(self, name: str, entries: int | None = None) -> None:
        """Keep how many entries differ from the base's now and, if that is asked for, what the model can do."""
        bench = self._bench
        if entries is not None:
            self.head = replace(self.head, entries={**self.head.entries, name: entries})
        if bench.capability and name not in self.head.capability:
            self._on_progress(Progress(0, 0, f"capability, {name}", None))
            figures = capability(
                self._loaded.model, self._loaded.tokenizer, bench.data_dir, n=bench.capability, seed=bench.seed
            )
            measured = {task: asdict(figure) for task, figure in figures.items()}
            self.head = replace(self.head, capability={**self.head.capability, name: measured})
        write_head(bench.folder, self.head)

    def fail(self, failure: FailedRun) -> None:
        """Keep what could not be run."""
        self.head = replace(self.head, failures=(*self.head.failures, failure))
        write_head(self._bench.folder, self.head)


def _joined(head: EditHead, folder: Path, capability_asked: bool) -> EditHead:
    """The head of a folder that may hold an earlier part of the same run.

    Methods may be added, and to single edits more cases; everything else must be as it was.
    """
    if not (folder / HEAD).exists():
        if (folder / EditRecord.FILE).exists():
            raise ConfigError(f"{folder} holds records without the {HEAD} that says of what; name a new folder.")
        return head
    before = read_head(folder, EditHead)
    recorded = {record.method for record in read_edit_records(folder)}
    begun = recorded | {name for name in head.methods if checkpoint_file(folder, name).exists()}
    for field in ("model_sha256", "dataset", "data_sha256", "mode", "seed", "skip", "fluency"):
        if getattr(before, field) != getattr(head, field):
            raise ConfigError(f"{folder} holds a run with another {field.removesuffix('_sha256')}; name a new folder.")
    if head.mode != "single" and before.n != head.n:
        raise ConfigError(f"{folder} holds a {head.mode} run of {before.n} edits; name a new folder for {head.n}.")
    for name, config in head.methods.items():
        if name in begun and before.methods.get(name) != config:
            raise ConfigError(f"{folder} holds edits by {name} with other settings; name a new folder.")
    if capability_asked and (late := [name for name in head.methods if name in recorded - before.capability.keys()]):
        raise ConfigError(
            f"The edits of {late[0]} in {folder} are scored and gone, so its capability cannot be measured any more; "
            "name a new folder, or leave --capability out."
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


def _per_call(method: Method, mode: Mode) -> int | None:
    return {"single": 1, "batch": None, "sequential": method.requests_per_call}[mode]
