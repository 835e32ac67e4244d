"""The editing benchmark from settings to records: data, model, methods, and a folder that a run can be resumed from."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from roselora.baselines.methods import Method
from roselora.errors import ConfigError
from roselora.evaluation.capability import capability
from roselora.evaluation.cases import deduplicate
from roselora.evaluation.datasets import read_cases
from roselora.evaluation.editing_run import Clock, EditingRun, Plan, Progress, choose
from roselora.evaluation.method_settings import as_plain
from roselora.evaluation.record_files import HEAD, appending, read_head, read_records, write_head
from roselora.evaluation.records import EditRecord, Mode, RunHead
from roselora.evaluation.scoring import Judge
from roselora.files import writer_lock
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import LoadedModel

VERSIONS = ("roselora", "torch", "transformers", "peft")


@dataclass(frozen=True)
class EditBench:
    """One run of the editing benchmark.

    Attributes:
        dataset: a name of ``evaluation.datasets``; ``data_dir``: where its files are, or None for the hub.
        methods: by name.
        mode: see :class:`~roselora.evaluation.editing_run.Plan`.
        n: how many cases, or None for all.
        seed: of the choice of cases.
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


def prepare(bench: EditBench, loaded: LoadedModel) -> tuple[Plan, RunHead]:
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
    if bench.n is not None and not 1 <= bench.n <= len(unique.cases):
        raise ConfigError(f"n must be within 1 and {len(unique.cases)}, the cases of {bench.dataset}, not {bench.n}.")
    cases = choose(unique.cases, bench.n, bench.seed)
    plan = Plan(cases, bench.methods, bench.mode, bench.folder)
    head = RunHead(
        command=bench.command,
        model=Path(loaded.name).name if Path(loaded.name).exists() else loaded.name,
        model_sha256=fingerprint(loaded.model),
        dataset=bench.dataset,
        data_file=data.file,
        data_sha256=data.sha256,
        mode=bench.mode,
        n=len(cases),
        skipped=(*unique.repeated, *unique.conflicting, *data.left_out),
        seed=bench.seed,
        methods={name: as_plain(method.config) for name, method in bench.methods.items()},
        versions={name: metadata.version(name) for name in VERSIONS},
        machine=_machine(loaded.model.device),
    )
    return plan, _joined(head, bench.folder)


def run(
    bench: EditBench, loaded: LoadedModel, plan: Plan, head: RunHead, on_progress: Callable[[Progress], None]
) -> tuple[RunHead, list[EditRecord]]:
    """Make every edit that the folder holds no record of; the head, with capability, and every record, old and new.

    Raises:
        StoppedError: the time is over; what was done is kept.
        FileFormatError: the folder's records are damaged.
    """
    bench.folder.mkdir(parents=True, exist_ok=True)
    write_head(bench.folder, head)
    measured = dict(head.capability)

    def measure(name: str) -> None:
        if not bench.capability or name in measured:
            return
        on_progress(Progress(0, len(plan.cases) * len(plan.methods), f"capability, {name}"))
        figures = capability(loaded.model, loaded.tokenizer, bench.data_dir, n=bench.capability, seed=bench.seed)
        measured[name] = {task: asdict(figure) for task, figure in figures.items()}
        write_head(bench.folder, replace(head, capability=measured))

    measure("base")
    known = read_records(bench.folder)
    judge = Judge(loaded.model, loaded.tokenizer, fluency=bench.fluency)
    with writer_lock(bench.folder / "run.lock"), appending(bench.folder) as write:
        EditingRun(
            loaded.model, loaded.tokenizer, plan, judge, known, write, on_progress, Clock(bench.seconds), measure
        ).run()
    return replace(head, capability=measured), read_records(bench.folder)


def _joined(head: RunHead, folder: Path) -> RunHead:
    """The head of a folder that may hold an earlier part of the same run.

    Methods may be added, and to single edits more cases; everything else must be as it was.
    """
    if not (folder / HEAD).exists():
        return head
    before = read_head(folder)
    for field in ("model_sha256", "dataset", "data_sha256", "mode", "seed"):
        if getattr(before, field) != getattr(head, field):
            raise ConfigError(f"{folder} holds a run with another {field.removesuffix('_sha256')}; name a new folder.")
    if head.mode != "single" and before.n != head.n:
        raise ConfigError(f"{folder} holds a {head.mode} run of {before.n} edits; name a new folder for {head.n}.")
    for name, config in head.methods.items():
        if before.methods.get(name, config) != config:
            raise ConfigError(f"{folder} holds edits by {name} with other settings; name a new folder.")
    return replace(
        head, n=max(head.n, before.n), methods={**before.methods, **head.methods}, capability=before.capability
    )


def _machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"processor": name, "device": device.type, "threads": torch.get_num_threads()}
