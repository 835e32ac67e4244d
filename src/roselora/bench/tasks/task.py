"""The shape that every fine-tuning benchmark has: records, prompts, answers, a score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roselora.bench.tasks.json_number import Number


@dataclass(frozen=True)
class Question:
    """One thing that a model is asked.

    Attributes:
        key: which record of which file, such as ``boolq_test.json:17``.
        prompt: exactly what the model reads.
        gold: what its answer is scored against, as the benchmark writes it.
        pair: of a classifier, the second text, if there are two.
    """

    key: str
    prompt: str
    gold: str
    pair: str | None = None

    @property
    def length(self) -> int:
        """In characters, so that questions of like length can be asked together."""
        return len(self.prompt) + len(self.pair or "")


@dataclass(frozen=True)
class Decoding:
    """How answers are generated; everything else is greedy search's default."""

    max_new_tokens: int
    num_beams: int = 1
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Read:
    """What was read of one or several files.

    Attributes:
        records: `Question` of a test set, or of training data ``prompt`` and ``completion`` (GLUE: ``text``, maybe
            ``text_pair``, and ``label``).
        sources: by file name the SHA-256 of the file.
        left_out: how many records were not used, by why.
    """

    records: Sequence[Any]
    sources: Mapping[str, str]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Task:
    """One test set whose answers are generated, under one protocol.

    Attributes:
        name: such as ``boolq``.
        protocol: ``llm-adapters`` or ``loreft``: whose prompts, decoding and extraction.
        read: the questions of a data folder (None: of the hub), as a `Read` of `Question`.
        decoding: of the answers.
        extract: what of a generated text is taken for the answer; "" where there is none.
        right: whether an extracted answer counts for a gold one; None where only a judge can say.
    """

    name: str
    protocol: str
    read: Callable[[Path | None], Read]
    decoding: Decoding
    extract: Callable[[str], str]
    right: Callable[[str, str], bool] | None


@dataclass(frozen=True)
class Classification:
    """One test set of which a classifier says the class, or a regression the number.

    Attributes:
        name, protocol, read: as a `Task`'s.
        labels: the classes' names; none of a regression.
    """

    name: str
    protocol: str
    read: Callable[[Path | None], Read]
    labels: tuple[str, ...]


AnyTask = Task | Classification


@dataclass(frozen=True)
class Prediction:
    """A model's answer to a question.

    Attributes:
        task, key: the question's.
        said: the generated text, or a classifier's class.
        answer: what was taken from it.
        score: 1 or 0 for a right or wrong answer; of a regression the predicted value; NaN where only a judge can say.
        gold: as the question's.
    """

    task: str
    key: str
    said: str
    answer: str
    score: Number
    gold: str
