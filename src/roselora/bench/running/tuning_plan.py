"""What a run of a fine-tuning benchmark will do, decided before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from roselora.bench.records.environment import machine, versions
from roselora.bench.records.run_files import BASE, HEAD, read_head
from roselora.bench.records.tuning_bench_records import TuningHead
from roselora.bench.running.drawing import drawn
from roselora.bench.running.resumption import require_same_run, require_same_settings
from roselora.bench.tasks.task import AnyTask, Question
from roselora.bench.tasks.tuning_benchmarks import BENCHMARKS, Benchmark
from roselora.errors import ConfigError
from roselora.models.devices import AUTO
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import load
from roselora.models.task_heads import head_for
from roselora.training import processes
from roselora.training.config_file import read_settings
from roselora.training.train_settings import TrainSettings

TRAINING_DATA, VALIDATION_DATA = "train.jsonl", "held_out.jsonl"

VALIDATION_SHARE, VALIDATION_MOST = 0.1, 200
"""How much of the training data chooses a learning rate where a benchmark has no validation data of its own."""

SAME_IN_ONE_FOLDER = {
    "benchmark": "benchmark",
    "protocol": "protocol",
    "model_sha256": "model",
    "training": "training mix",
    "rates": "list of learning rates",
    "lessons": "number of training examples",
    "held_out": "number of validation examples",
    "question_seed": "question seed",
}
"""Fields of the head that must be equal for all runs into one folder, with their names in messages."""


@dataclass(frozen=True)
class TuningRequest:
    """What the user asks for.

    Attributes:
        benchmark, protocol: by name; each set of GLUE is a benchmark, such as ``glue/rte``.
        model: demo, a folder, a GGUF file or a hub id.
        methods: to train; the untrained model is always asked too.
        seeds: of training; every method is trained with each.
        folder: where everything is written.
        sets: names of test sets; None for all.
        n: questions of each set, and examples of a benchmark's own validation data; None for all.
        forgetting: questions or texts of each task that a model may have forgotten; 0 for none.
        examples: how many training examples, drawn by the question seed; None for all.
        share: the fraction of these that is trained on; a smaller share is part of every larger one.
        device, dtype: for training and answering; None for those of the settings.
        preset, config: a preset's name and a file of `roselora train`, whose ``adapter`` and ``training`` hold for
            every method; the file overrides the preset.
        overrides: single settings, such as ``adapter.rank=8``, which override both.
        rates: learning rates; of several each method takes the one that does best on the validation data.
        data_dir: the folder with the data, or None for the hub.
        command: the command line that repeats the run.
        question_seed: of the choice of questions and training examples.
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
class TrainingData:
    """What is trained on.

    Attributes:
        training: examples as :class:`~roselora.bench.tasks.task.TaskData` describes them.
        validation: examples that choose a learning rate; none without a choice.
        left_out: how many examples are never used, by reason.
        sources: by file name the SHA-256 of the file.
    """

    training: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    left_out: Mapping[str, int]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class TuningPlan:
    """A request with its data read and its settings checked.

    Attributes:
        head: for the folder and the report.
        tasks: the test sets by name; ``questions``: of each.
        data: what is trained on.
        settings: by method, with the first seed and learning rate.
        labels: as of :class:`~roselora.bench.tasks.tuning_benchmarks.Benchmark`.
        device, dtype: for training and answering.
    """

    request: TuningRequest
    head: TuningHead
    tasks: Mapping[str, AnyTask]
    questions: Mapping[str, Sequence[Question]]
    data: TrainingData
    settings: Mapping[str, TrainSettings]
    labels: tuple[str, ...] | None
    device: str
    dtype: str

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.request.folder

    @property
    def units(self) -> list[tuple[str, int]]:
        """Every method and seed, the untrained model first, unless its classifier is new: that one can only guess."""
        untrained = [(BASE, 0)] if self.labels is None else []
        return untrained + [(method, seed) for method in self.settings for seed in self.request.seeds]

    def at(self, method: str, seed: int, rate: float) -> TrainSettings:
        """The settings of one training run."""
        settings = self.settings[method]
        training = settings.training.model_copy(update={"learning_rate": rate, "seed": seed})
        output = self.folder / "trained" / f"{method}-{seed}-{rate:g}"
        return settings.model_copy(update={"training": training, "output": str(output)})


def make_plan(request: TuningRequest) -> TuningPlan:
    """Read the data, fingerprint the model, and check that the folder is new or holds a part of the same run.

    Raises:
        ConfigError: an unknown name, an unusable file or value, or a folder with another run.
        ModelError: the model cannot be loaded.
    """
    if request.benchmark not in BENCHMARKS:
        raise ConfigError(f"There is no benchmark {request.benchmark!r}: name one of {', '.join(BENCHMARKS)}.")
    if request.forgetting and request.data_dir is None:
        raise ConfigError("Forgetting is measured with questions from a folder: point --data-dir at the data.")
    if not request.seeds:
        raise ConfigError("There are no seeds to train with: name at least one.")
    benchmark = BENCHMARKS[request.benchmark]
    tasks = _tasks(benchmark, request)
    test_sets = {name: task.read(request.data_dir) for name, task in tasks.items()}
    questions = {name: drawn(found.records, request.n, request.question_seed) for name, found in test_sets.items()}
    data = _training_data(benchmark, request)
    settings = {method: _settings(request, benchmark, method, bool(data.validation)) for method in request.methods}
    # Nothing may be trained: then the options say where the questions are answered.
    first = next((own.training for own in settings.values()), None)
    device, dtype = (first.device, first.dtype) if first else (request.device or AUTO, request.dtype or AUTO)
    used = processes.join(device)
    torch.manual_seed(request.question_seed)  # a classifier's pooler may be drawn while the model is loaded
    model = load(request.model, head=head_for(benchmark.labels), quantized=True).model
    sources = dict(data.sources)
    for found in test_sets.values():
        sources |= found.sources
    head = TuningHead(
        benchmark=request.benchmark,
        protocol=request.protocol,
        command=request.command,
        model=Path(request.model).name if Path(request.model).exists() else request.model,
        model_sha256=fingerprint(model if benchmark.labels is None else model.base_model),
        training=benchmark.mix,
        lessons=len(data.training),
        held_out=len(data.validation),
        rates=request.rates,
        training_left_out=data.left_out,
        sources=sources,
        asked={name: len(found) for name, found in questions.items()},
        of={name: len(found.records) for name, found in test_sets.items()},
        settings={method: _recorded(own) for method, own in settings.items()},
        seeds=request.seeds,
        question_seed=request.question_seed,
        versions=versions("trl"),
        machine=machine(used),
    )
    _require_same_run(request.folder, head)
    return TuningPlan(request, head, tasks, questions, data, settings, benchmark.labels, device, dtype)


def _tasks(benchmark: Benchmark, request: TuningRequest) -> dict[str, AnyTask]:
    every = benchmark.tasks(request.protocol)
    names = tuple(every) if request.sets is None else request.sets
    if unknown := [name for name in names if name not in every]:
        raise ConfigError(f"{request.benchmark} has no set {unknown[0]!r}: name some of {', '.join(every)}.")
    return {name: every[name] for name in names}


def _training_data(benchmark: Benchmark, request: TuningRequest) -> TrainingData:
    """The training examples and, if there are several learning rates, the validation examples."""
    read = benchmark.training_examples(request.protocol, request.data_dir)
    examples = drawn(read.records, request.examples, request.question_seed)
    examples = examples[: max(1, round(request.share * len(examples)))]
    if len(request.rates) < 2:
        return TrainingData(examples, [], read.left_out, read.sources)
    if (own := benchmark.validation_examples(request.data_dir)) is not None:
        validation = drawn(own.records, request.n, request.question_seed)
        return TrainingData(examples, validation, read.left_out, {**read.sources, **own.sources})
    count = min(VALIDATION_MOST, int(VALIDATION_SHARE * len(examples)))
    if not count:
        raise ConfigError(
            f"{len(examples)} training examples are too few to set some aside that choose a learning rate: train on "
            "more, or name one rate."
        )
    return TrainingData(examples[count:], examples[:count], read.left_out, read.sources)


def _settings(request: TuningRequest, benchmark: Benchmark, method: str, evaluated: bool) -> TrainSettings:
    """A training run's settings: the preset's and the file's, then the overrides, then what the benchmark sets."""
    shape = "completion" if benchmark.labels is None else "classification"
    overrides = [*request.overrides, f"training.seed={request.seeds[0]}", f"data.shape={shape}"]
    if request.device is not None:
        overrides.append(f"training.device={request.device}")
    if request.dtype is not None:
        overrides.append(f"training.dtype={request.dtype}")
    if request.rates:
        overrides.append(f"training.learning_rate={request.rates[0]}")
    given = {
        "model": request.model,
        "method": method,
        "data.train": str(request.folder / TRAINING_DATA),
        "output": str(request.folder / "trained"),
    }
    if evaluated:
        given["data.eval"] = str(request.folder / VALIDATION_DATA)
    return read_settings(request.config, overrides, given, request.preset)


def _recorded(settings: TrainSettings) -> dict[str, Any]:
    """The settings that the head keeps, without the device, which the machine has chosen."""
    return settings.model_dump(include={"adapter": True, "training": True}, exclude={"training": {"device"}})


def _require_same_run(folder: Path, head: TuningHead) -> None:
    """Refuse a folder in which there is anything but an earlier part of the same run."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder.")
    if not (folder / HEAD).exists():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty, and holds no run of a fine-tuning benchmark; name another one.")
        return
    earlier = read_head(folder, TuningHead)
    require_same_run(folder, earlier, head, SAME_IN_ONE_FOLDER)
    if any(earlier.sources.get(name, sha256) != sha256 for name, sha256 in head.sources.items()):
        raise ConfigError(f"{folder} holds a run with other source files; name another folder.")
    require_same_settings(folder, earlier.settings, head.settings)
