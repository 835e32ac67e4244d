"""A run of a fine-tuning benchmark on disk: what was trained, and every answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roselora.bench.records.bench_records import FailedRun
from roselora.bench.records.record_files import from_json, refusing, whole_lines
from roselora.bench.tasks.task import Prediction

UNITS, ANSWERS, ABILITIES, HEAD = "units.jsonl", "answers.jsonl", "abilities.jsonl", "head.json"
JUDGEMENTS, LIKELIHOODS = "judgements.jsonl", "likelihoods.jsonl"


@dataclass(frozen=True)
class Head:
    """What was run: everything that is needed to run it again.

    Attributes:
        benchmark, protocol: such as ``commonsense`` and ``loreft``.
        command: the line that repeats it.
        model, model_sha256: what it was asked for by, and the hash of its weights.
        training: the mix's name; ``lessons``: how many of its records there are to learn from; ``held_out``: how many
            records chose each method's learning rate among ``rates``, 0 if there was no choice.
        training_left_out: by why, how many of its records are never learnt from.
        sources: by file name the SHA-256 of the file.
        asked, of: by test set how many questions are asked, and how many there are.
        settings: of training, by method, of the first seed.
        seeds: of training; ``question_seed``: of the choice of questions.
        versions, machine: of the libraries; processor, device and threads.
        failures: of the methods that were last tried, what could not be trained or asked; no unit stands for it.
    """

    benchmark: str
    protocol: str
    command: str
    model: str
    model_sha256: str
    training: str
    lessons: int
    held_out: int
    rates: tuple[float, ...]
    training_left_out: Mapping[str, int]
    sources: Mapping[str, str]
    asked: Mapping[str, int]
    of: Mapping[str, int]
    settings: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    question_seed: int
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    failures: tuple[FailedRun, ...] = ()


@dataclass(frozen=True)
class TrainedUnit:
    """One training run of a method, and what it cost.

    Attributes:
        method, seed, learning_rate: which.
        examples, steps: trained on, and optimizer steps.
        seconds: of training; ``peak_bytes``: of memory beyond what was held before it.
        trained: parameters that were trained.
        entries_changed: entries of the base's weights that are others once the update is merged; None where they are
            quantized.
        file_bytes: of the saved weights; ``delta_bytes``: of the same update as a SparseDelta, if it is one.
        held_out: loss and maybe accuracy on the rows that choose a learning rate; empty if there are none.
    """

    method: str
    seed: int
    learning_rate: float
    examples: int
    steps: int
    seconds: float
    peak_bytes: int
    trained: int
    entries_changed: int | None
    file_bytes: int
    delta_bytes: int | None
    held_out: Mapping[str, float]


@dataclass(frozen=True)
class Answered:
    """A prediction of one unit; the untrained model's unit is ``base`` with seed 0."""

    method: str
    seed: int
    prediction: Prediction


@dataclass(frozen=True)
class Abilities:
    """What a unit's model can still do elsewhere.

    Attributes:
        method, seed: which.
        n: questions or texts of each task.
        outcomes: by figure each question's 1 or 0, or each text's loss, in one order for all units.
    """

    method: str
    seed: int
    n: int
    outcomes: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Judged:
    """What a judge said of one answer beside the reference.

    Attributes:
        method, seed, key: of the answer.
        judge: its name; ``reply``: its words.
        verdict: 1 for the answer, 0 for the reference, 0.5 for neither; None where the reply names nothing.
    """

    method: str
    seed: int
    key: str
    judge: str
    reply: str
    verdict: float | None


@dataclass(frozen=True)
class Weighed:
    """How likely the untrained model holds one answer and the reference.

    Attributes:
        method, seed, key: of the answer.
        own, own_tokens: mean log-likelihood of the answer's tokens in nats, and how many there are; NaN of none.
        reference, reference_tokens: likewise.
    """

    method: str
    seed: int
    key: str
    own: float
    own_tokens: int
    reference: float
    reference_tokens: int


def read_head(folder: Path) -> Head:
    """What was run.

    Raises:
        FileFormatError: the file does not hold one head.
    """
    path = folder / HEAD
    with refusing(f"{path} is not the head of a fine-tuning benchmark"):
        head: Head = from_json(Head, path.read_bytes(), _head_of_today)
    return head


def _head_of_today(head: Any) -> Any:
    """A head's JSON value with the fields of today; earlier versions knew no failed runs."""
    return {"failures": [], **head} if isinstance(head, dict) else head


def read_units(folder: Path) -> list[TrainedUnit]:
    """What has been trained.

    Raises:
        FileFormatError: the file does not hold such lines.
    """
    return _read(folder / UNITS, TrainedUnit)


def read_answers(folder: Path) -> list[Answered]:
    """What has been answered; raises as :func:`read_units` does."""
    return _read(folder / ANSWERS, Answered)


def read_abilities(folder: Path) -> list[Abilities]:
    """What has been measured of other abilities; raises as :func:`read_units` does."""
    return _read(folder / ABILITIES, Abilities)


def read_judged(folder: Path) -> list[Judged]:
    """What has been judged; raises as :func:`read_units` does."""
    return _read(folder / JUDGEMENTS, Judged)


def read_weighed(folder: Path) -> list[Weighed]:
    """What has been weighed; raises as :func:`read_units` does."""
    return _read(folder / LIKELIHOODS, Weighed)


def _read(path: Path, kind: type) -> list[Any]:
    found = []
    for number, line in enumerate(whole_lines(path), start=1):
        with refusing(f"Line {number} of {path} is no {kind.__name__}"):
            found.append(from_json(kind, line))
    return found
