"""What a run of a fine-tuning benchmark writes: its head, each training run, and every answer with its judgements."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from roselora.bench.records.failed_run import FailedRun
from roselora.bench.records.run_files import Setting
from roselora.bench.tasks.json_number import Number
from roselora.bench.tasks.task import Prediction


@dataclass(frozen=True, kw_only=True)
class TuningHead:
    """What was run: everything that is needed to run it again.

    Attributes:
        benchmark, protocol: such as ``commonsense`` and ``loreft``.
        command: the command line that repeats it.
        model, model_sha256: its name on the command line, and the fingerprint of its weights.
        training: the name of the training data; ``lessons``: how many training examples are used.
        held_out: how many validation examples choose each method's learning rate among ``rates``; 0 without a choice.
        training_left_out: how many training examples are never used, by reason.
        sources: by file name the SHA-256 of the file.
        asked, of: by test set how many questions are asked, and how many it has.
        settings: of training, by method, with the first seed.
        seeds: of training; ``question_seed``: of the choice of questions and of training examples.
        versions, machine: of the libraries; processor, device and threads.
        failures: of the methods that were run last, what could not be trained or asked.
    """

    benchmark: str
    protocol: str
    command: str
    model: str
    model_sha256: str
    training: str
    lessons: int
    held_out: int
    rates: tuple[Number, ...]
    training_left_out: Mapping[str, int]
    sources: Mapping[str, str]
    asked: Mapping[str, int]
    of: Mapping[str, int]
    settings: Mapping[str, Mapping[str, Setting]]
    seeds: tuple[int, ...]
    question_seed: int
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    failures: tuple[FailedRun, ...] = ()


@dataclass(frozen=True)
class TrainedUnit:
    """One training run: a method with one seed and one learning rate, and what it cost.

    Attributes:
        examples, steps: trained on, and optimizer steps.
        seconds: of training; ``peak_bytes``: peak memory beyond what was allocated before it.
        trained: how many parameters were trained.
        entries_changed: how many entries of the base's weights change when the update is merged; None where the base is
            quantized.
        file_bytes: of the saved weights; ``delta_bytes``: of the same update as a SparseDelta, if it is one.
        held_out: loss and perhaps accuracy on the validation examples; empty without any.
    """

    FILE: ClassVar[str] = "units.jsonl"

    method: str
    seed: int
    learning_rate: Number
    examples: int
    steps: int
    seconds: Number
    peak_bytes: int
    trained: int
    entries_changed: int | None
    file_bytes: int
    delta_bytes: int | None
    held_out: Mapping[str, Number]


@dataclass(frozen=True)
class Answered:
    """A prediction by one trained model, or by the untrained one, which is the method ``base`` with seed 0."""

    FILE: ClassVar[str] = "answers.jsonl"

    method: str
    seed: int
    prediction: Prediction


@dataclass(frozen=True)
class Abilities:
    """What a trained model, or the untrained one, can do outside its training task.

    Attributes:
        n: questions or texts of each task.
        outcomes: by figure each question's 1 or 0, or each text's loss, in the same order for all models.
    """

    FILE: ClassVar[str] = "abilities.jsonl"

    method: str
    seed: int
    n: int
    outcomes: Mapping[str, tuple[Number, ...]]


@dataclass(frozen=True)
class Judgement:
    """A judge's comparison of one answer with the reference.

    Attributes:
        key: of the question; ``judge``: the judge's name; ``reply``: its words.
        verdict: 1 for the answer, 0 for the reference, 0.5 for a tie; None if the reply names none of these.
    """

    FILE: ClassVar[str] = "judgements.jsonl"

    method: str
    seed: int
    key: str
    judge: str
    reply: str
    verdict: Number | None


@dataclass(frozen=True)
class LikelihoodPair:
    """How likely one answer and the reference are by the untrained model.

    Attributes:
        key: of the question.
        own, own_tokens: mean log-likelihood of the answer's tokens in nats, and how many there are; NaN without any.
        reference, reference_tokens: the same of the reference.
    """

    FILE: ClassVar[str] = "likelihoods.jsonl"

    method: str
    seed: int
    key: str
    own: Number
    own_tokens: int
    reference: Number
    reference_tokens: int
