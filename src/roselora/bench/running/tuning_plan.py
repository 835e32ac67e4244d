"""What a run of a fine-tuning benchmark will do, decided before anything is written."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from roselora.bench.records.environment import machine, versions
from roselora.bench.records.run_files import BASE, HEAD, read_head
from roselora.bench.records.tuning_bench_records import TuningHead
from roselora.bench.tasks.task import AnyTask, Question, TaskData
from roselora.bench.tasks.tuning_benchmarks import BENCHMARKS, Benchmark
from roselora.errors import ConfigError
from roselora.models.devices import AUTO
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import load
from roselora.models.task_heads import head_for
from roselora.training import processes
from roselora.training.config_file import read_settings
from roselora.training.train_settings import TrainSettings

TRAINING_DATA, HELD_OUT_DATA = "train.jsonl", "held_out.jsonl"
HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 200
"""How much of the mix chooses a learning rate where a benchmark has no rows of its own for that."""


@dataclass(frozen=True)
class TuningRequest:
    """What the user asks for.

    Attributes:
        benchmark, protocol: by name; each of GLUE's sets is a benchmark, such as ``glue/rte``.
        model: demo, a folder, a GGUF file or a hub id.
        methods: that are trained, without the base.
        seeds: of training, each a run of every method.
        sets: names of test sets; None for all.
        n: questions of each set, and of rows that a benchmark has for the choice of a learning rate; None for all.
        forgetting: questions or texts of each task that a model may have forgotten; 0 for none.
        examples: how many training records, drawn by the question seed; None for all.
        share: how much of these is trained on; a smaller share is a part of every larger one.
        device, dtype: that models are trained and asked on and in; None: as the file says.
        preset: of `roselora train`, whose ``adapter`` and ``training`` hold for every method unless the file says
            otherwise.
        config: a file of `roselora train` whose ``adapter`` and ``training`` hold for every method.
        overrides: of these, such as ``adapter.rank=8``.
        rates: learning rates, of which each method takes the one that does best on held-out rows; of one or none
            nothing is chosen.
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
    share: float = 1.0
    device: str | None = None
    dtype: str | None = None
    preset: str | None = None
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    data_dir: Path | None = None
    command: str = ""
    question_seed: int = 0


@dataclass(frozen=True)
class TuningPlan:
    """What is to be done.

    Attributes:
        model: what the base is asked for by.
        head: for the folder and the report.
        tasks: by name; ``questions``: of each.
        lessons: training's records; ``held_out``: those that choose a learning rate, none if there is no choice.
        settings: by method and seed, the training run, with the first learning rate.
        labels: as the benchmark's.
        device, dtype: that models are trained and asked on and in.
        forgetting, data_dir: how many questions of each other task, and where they are.
        folder: for all that is written.
    """

    model: str
    head: TuningHead
    tasks: Mapping[str, AnyTask]
    questions: Mapping[str, Sequence[Question]]
    lessons: Sequence[Mapping[str, Any]]
    held_out: Sequence[Mapping[str, Any]]
    settings: Mapping[tuple[str, int], TrainSettings]
    labels: tuple[str, ...] | None
    device: str
    dtype: str
    folder: Path
    forgetting: int
    data_dir: Path | None

    @property
    def units(self) -> list[tuple[str, int]]:
        """Every method and seed, the untrained model first; a classifier's new head has nothing to say untrained."""
        return [*([(BASE, 0)] if self.labels is None else []), *self.settings]

    def at(self, method: str, seed: int, rate: float) -> TrainSettings:
        """A training run with a learning rate."""
        settings = self.settings.get((method, seed)) or self.settings[method, self.head.seeds[0]]
        training = settings.training.model_copy(update={"learning_rate": rate, "seed": seed})
        output = self.folder / "trained" / f"{method}-{seed}-{rate:g}"
        return settings.model_copy(update={"training": training, "output": str(output)})


def make_plan(wanted: TuningRequest) -> TuningPlan:
    """Read the data and the model's hash, and check that the folder is new or holds a part of the same run.

    Raises:
        ConfigError: a name, file or value that cannot be meant, or a folder of another run.
        ModelError: the model cannot be loaded.
    """
    if wanted.benchmark not in BENCHMARKS:
        raise ConfigError(f"There is no benchmark {wanted.benchmark!r}: name one of {', '.join(BENCHMARKS)}.")
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
    mix = benchmark.training_examples(wanted.protocol, wanted.data_dir)
    lessons = drawn(mix.records, wanted.examples, wanted.question_seed)
    lessons = lessons[: max(1, round(wanted.share * len(lessons)))]
    held_out, selecting = _held_out(wanted, benchmark, lessons)
    lessons = lessons[len(held_out) if selecting is None else 0 :]
    settings = {
        (method, seed): _settings(wanted, benchmark, method, seed, bool(held_out))
        for method in wanted.methods
        for seed in wanted.seeds
    }
    device, dtype = _place(wanted, settings)
    used = processes.join(device)
    torch.manual_seed(wanted.question_seed)  # a classifier's pooler may be drawn while the model is loaded
    model = load(wanted.model, head=head_for(benchmark.labels), quantized=True).model
    head = TuningHead(
        benchmark=wanted.benchmark,
        protocol=wanted.protocol,
        command=wanted.command,
        model=Path(wanted.model).name if Path(wanted.model).exists() else wanted.model,
        model_sha256=fingerprint(model if benchmark.labels is None else model.base_model),
        training=benchmark.mix,
        lessons=len(lessons),
        held_out=len(held_out),
        rates=wanted.rates,
        training_left_out=mix.left_out,
        sources={
            name: sha256
            for found in (mix, *([selecting] if selecting else []), *read.values())
            for name, sha256 in found.sources.items()
        },
        asked={name: len(found) for name, found in questions.items()},
        of={name: len(found.records) for name, found in read.items()},
        settings={method: _plain(settings[method, wanted.seeds[0]]) for method in wanted.methods},
        seeds=wanted.seeds,
        question_seed=wanted.question_seed,
        versions=versions("trl"),
        machine=machine(used),
    )
    _check_folder(wanted.folder, head)
    return TuningPlan(
        model=wanted.model,
        head=head,
        tasks=tasks,
        questions=questions,
        lessons=lessons,
        held_out=held_out,
        settings=settings,
        labels=benchmark.labels,
        device=device,
        dtype=dtype,
        folder=wanted.folder,
        forgetting=wanted.forgetting,
        data_dir=wanted.data_dir,
    )


def drawn(records: Sequence[Any], n: int | None, seed: int) -> list[Any]:
    """The first ``n`` of the seed's own order, so that a larger ``n`` holds those of a smaller one; all if None."""
    shuffled = random.Random(seed).sample(list(records), len(records))
    return shuffled if n is None else shuffled[:n]


def _held_out(wanted: TuningRequest, benchmark: Benchmark, lessons: list[Any]) -> tuple[list[Any], TaskData | None]:
    """The rows that choose a learning rate, and where they come from if not from the lessons' beginning."""
    if len(wanted.rates) < 2:
        return [], None
    if benchmark.validation_examples is not None:
        read = benchmark.validation_examples(wanted.data_dir)
        return drawn(read.records, wanted.n, wanted.question_seed), read
    count = min(HELD_OUT_MOST, int(HELD_OUT_SHARE * len(lessons)))
    if not count:
        raise ConfigError(
            f"Of {len(lessons)} training records none can be held out to choose a learning rate by: train on more of "
            "them, or name one rate."
        )
    return lessons[:count], None


def _settings(wanted: TuningRequest, benchmark: Benchmark, method: str, seed: int, evaluated: bool) -> TrainSettings:
    """A training run's settings: the file's, the overrides, and what the benchmark sets itself."""
    shape = "completion" if benchmark.labels is None else "classification"
    overrides = [*wanted.overrides, f"training.seed={seed}", f"data.shape={shape}"]
    overrides += [
        f"training.{name}={value}"
        for name, value in (("device", wanted.device), ("dtype", wanted.dtype))
        if value is not None
    ]
    if wanted.rates:
        overrides.append(f"training.learning_rate={wanted.rates[0]}")
    given = {
        "model": wanted.model,
        "method": method,
        "data.train": str(wanted.folder / TRAINING_DATA),
        "output": str(wanted.folder / "trained"),
    }
    if evaluated:
        given["data.eval"] = str(wanted.folder / HELD_OUT_DATA)
    return read_settings(wanted.config, overrides, given, wanted.preset)


def _place(wanted: TuningRequest, settings: Mapping[tuple[str, int], TrainSettings]) -> tuple[str, str]:
    """Device and dtype of every run, which are those of the questions too, also where nothing is trained."""
    for own in settings.values():
        return own.training.device, own.training.dtype
    return wanted.device or AUTO, wanted.dtype or AUTO


def _plain(settings: TrainSettings) -> dict[str, Any]:
    plain = settings.model_dump()
    del plain["training"]["device"]  # which is the machine's matter
    return {section: plain[section] for section in ("adapter", "training")}


_SAME = (
    "benchmark",
    "protocol",
    "model_sha256",
    "training",
    "rates",
    "lessons",
    "held_out",
    "sources",
    "question_seed",
)
"""What a folder's earlier part must have in common with what is added to it."""


def _check_folder(folder: Path, head: TuningHead) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder.")
    if not (folder / HEAD).exists():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty, and holds no run of a fine-tuning benchmark; name another one.")
        return
    earlier = read_head(folder, TuningHead)
    for name in _SAME:
        before, now = getattr(earlier, name), getattr(head, name)
        shared = before.keys() & now.keys() if name == "sources" else None
        differs = before != now if shared is None else any(before[key] != now[key] for key in shared)
        if differs:
            raise ConfigError(f"{folder} holds a run with another {name.replace('_', ' ')}; name another folder.")
    for method, settings in head.settings.items():
        if earlier.settings.get(method, settings) != settings:
            raise ConfigError(f"{folder} holds runs of {method} with other settings; name another folder.")
