"""What every fine-tuning benchmark is made of: questions, prompts, answers and scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roselora.bench.tasks.json_number import Number


@dataclass(frozen=True)
class Question:
    """One question to a model.

    Attributes:
        key: the file and the record's number in it, such as ``boolq_test.json:17``.
        prompt: exactly what the model reads.
        gold: the right answer, as the benchmark writes it.
        pair: the second text for a classifier of pairs.
    """

    key: str
    prompt: str
    gold: str
    pair: str | None = None

    @property
    def length(self) -> int:
        """In characters, so that questions of similar length can be batched."""
        return len(self.prompt) + len(self.pair or "")


@dataclass(frozen=True)
class Decoding:
    """How answers are generated; every other setting is greedy search's default."""

    max_new_tokens: int
    num_beams: int = 1
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class TaskData:
    """What was read from one or several files.

    Attributes:
        records: a test set's `Question`s, or training examples: ``prompt`` and ``completion``, or for GLUE ``text``,
            ``label`` and for pairs ``text_pair``.
        sources: the SHA-256 of each file, by its name.
        left_out: how many records were not used, by the reason.
    """

    records: Sequence[Any]
    sources: Mapping[str, str]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Task:
    """One test set whose answers are generated, under one protocol.

    Attributes:
        name: such as ``boolq``.
        protocol: whose prompts, decoding and answer extraction are used, such as ``loreft``.
        read: the `Question`s of a data folder, or of the hub if there is none.
        decoding: how answers are generated.
        extract: takes the answer from a generated text; "" where there is none.
        right: whether an extracted answer is right, given the gold one; None where only a judge can tell.
    """

    name: str
    protocol: str
    read: Callable[[Path | None], TaskData]
    decoding: Decoding
    extract: Callable[[str], str]
    right: Callable[[str, str], bool] | None


@dataclass(frozen=True)
class Classification:
    """One test set that a classifier or a regression answers.

    Attributes:
        name, read: as in `Task`.
        labels: the names of the classes; empty for a regression.
    """

    name: str
    read: Callable[[Path | None], TaskData]
    labels: tuple[str, ...]


AnyTask = Task | Classification


@dataclass(frozen=True)
class Prediction:
    """A model's answer to a question.

    Attributes:
        task, key: of the question.
        said: the generated text, or the predicted class.
        answer: the answer extracted from it.
        score: 1 for a right answer, 0 for a wrong one; for a regression the predicted value; NaN where only a judge can
            tell.
        gold: the question's right answer.
    """

    task: str
    key: str
    said: str
    answer: str
    score: Number
    gold: str
