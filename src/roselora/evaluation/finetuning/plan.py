"""What a run of a fine-tuning benchmark will do, decided before anything is written."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from roselora.errors import ConfigError
from roselora.evaluation.finetuning.benchmarks import BENCHMARKS
from roselora.evaluation.finetuning.run_files import HEAD, Head
from roselora.evaluation.finetuning.shape import Question, Task
from roselora.evaluation.machine import machine
from roselora.evaluation.record_files import from_json, refusing
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import load
from roselora.training.config_file import read_settings
from roselora.training.settings import TrainSettings

BASE = "base"
"""The untrained model's name among the methods."""

TRAINING_DATA = "train.jsonl"
VERSIONS = ("roselora", "torch", "transformers", "peft", "trl")


@dataclass(frozen=True)
class Wanted:
    """What the user asks for.

    Attributes:
        benchmark, protocol: by name.
        model: demo, a folder, a GGUF file or a hub id.
        methods: that are trained, without the base.
        seeds: of training, each a run of every method.
        sets: names of test sets; None for all.
        n: questions of each set; None for all.
        forgetting: questions or texts of each task that a model may have forgotten; 0 for none.
        examples: how many training records, drawn by the question seed; None for all.
        config: a file of `roselora train` whose ``adapter`` and ``training`` hold for every method.
        overrides: of these, such as ``adapter.rank=8``.
        data_dir: the folder with the data, or None for the hub.
        folder: for all that is written.
        command: the line that repeats it.
        question_seed: of the choice of questions and training records.
    """

    benchmark: str
    protocol: str
    model: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path
    sets: tuple[str, ...] | None = None
    n: int | None = None
    forgetting: int = 0
    examples: int | None = None
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    data_dir: Path | None = None
    command: str = ""
    question_seed: int = 0


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        model: what the base is asked for by.
        head: for the folder and the report.
        tasks: by name; ``questions``: of each.
        lessons: training's records.
        settings: by method and seed, the training run.
        forgetting, data_dir: how many questions of each other task, and where they are.
        folder: for all that is written.
    """

    model: str
    head: Head
    tasks: Mapping[str, Task]
    questions: Mapping[str, Sequence[Question]]
    lessons: Sequence[Mapping[str, str]]
    settings: Mapping[tuple[str, int], TrainSettings]
    folder: Path
    forgetting: int
    data_dir: Path | None

    @property
    def units(self) -> list[tuple[str, int]]:
        """Every method and seed, the untrained model first."""
        return [(BASE, 0), *self.settings]


def make_plan(wanted: Wanted) -> Plan:
    """Read the data and the model's hash, and check that the folder is new or holds a part of the same run.

    Raises:
        ConfigError: a name, file or value that cannot be meant, or a folder of another run.
        ModelError: the model cannot be loaded.
    """
    benchmark = BENCHMARKS[wanted.benchmark]
    every = benchmark.tasks(wanted.protocol)
    names = tuple(every) if wanted.sets is None else wanted.sets
    for name in names:
        if name not in every:
            raise ConfigError(f"{wanted.benchmark} has no set {name!r}: name some of {', '.join(every)}.")
    if wanted.forgetting and wanted.data_dir is None:
        raise ConfigError("What a model has forgotten is asked from a folder: point --data-dir at the benchmark data.")
    if not wanted.seeds:
        raise ConfigError("There are no seeds to train with: name at least one.")
    tasks = {name: every[name] for name in names}
    read = {name: task.read(wanted.data_dir) for name, task in tasks.items()}
    questions = {name: drawn(found.records, wanted.n, wanted.question_seed) for name, found in read.items()}
    mix = benchmark.training_rows(wanted.protocol, wanted.data_dir)
    settings = {(method, seed): _settings(wanted, method, seed) for method in wanted.methods for seed in wanted.seeds}
    lessons = drawn(mix.records, wanted.examples, wanted.question_seed)
    model = load(wanted.model).model
    head = Head(
        benchmark=wanted.benchmark,
        protocol=wanted.protocol,
        command=wanted.command,
        model=Path(wanted.model).name if Path(wanted.model).exists() else wanted.model,
        model_sha256=fingerprint(model),
        training=benchmark.mix,
        lessons=len(lessons),
        training_left_out=mix.left_out,
        sources={name: sha256 for found in (mix, *read.values()) for name, sha256 in found.sources.items()},
        asked={name: len(found) for name, found in questions.items()},
        of={name: len(found.records) for name, found in read.items()},
        settings={method: _plain(settings[method, wanted.seeds[0]]) for method in wanted.methods},
        seeds=wanted.seeds,
        question_seed=wanted.question_seed,
        versions={name: metadata.version(name) for name in VERSIONS},
        machine=machine(model.device),
    )
    _check_folder(wanted.folder, head)
    return Plan(
        model=wanted.model,
        head=head,
        tasks=tasks,
        questions=questions,
        lessons=lessons,
        settings=settings,
        folder=wanted.folder,
        forgetting=wanted.forgetting,
        data_dir=wanted.data_dir,
    )


def drawn(records: Sequence[Any], n: int | None, seed: int) -> list[Any]:
    """The first ``n`` of the seed's own order, so that a larger ``n`` holds those of a smaller one; all if None."""
    shuffled = random.Random(seed).sample(list(records), len(records))
    return shuffled if n is None else shuffled[:n]


def _settings(wanted: Wanted, method: str, seed: int) -> TrainSettings:
    """A training run's settings: the file's, the overrides, and what the benchmark sets itself."""
    overrides = [*wanted.overrides, f"training.seed={seed}", "data.shape=completion"]
    given = {
        "model": wanted.model,
        "method": method,
        "data.train": str(wanted.folder / TRAINING_DATA),
        "output": str(wanted.folder / "trained" / f"{method}-{seed}"),
    }
    return read_settings(wanted.config, overrides, given)


def _plain(settings: TrainSettings) -> dict[str, Any]:
    plain = settings.model_dump()
    return {section: plain[section] for section in ("adapter", "training")}


_SAME = ("benchmark", "protocol", "model_sha256", "training", "lessons", "sources", "question_seed")
"""What a folder's earlier part must have in common with what is added to it."""


def _check_folder(folder: Path, head: Head) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder.")
    path = folder / HEAD
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty, and holds no run of a fine-tuning benchmark; name another one.")
        return
    with refusing(f"{path} is not the head of a fine-tuning benchmark"):
        earlier: Head = from_json(Head, path.read_bytes())
    for name in _SAME:
        before, now = getattr(earlier, name), getattr(head, name)
        shared = before.keys() & now.keys() if name == "sources" else None
        differs = before != now if shared is None else any(before[key] != now[key] for key in shared)
        if differs:
            raise ConfigError(f"{folder} holds a run with another {name.replace('_', ' ')}; name another folder.")
    for method, settings in head.settings.items():
        if earlier.settings.get(method, settings) != settings:
            raise ConfigError(f"{folder} holds runs of {method} with other settings; name another folder.")
