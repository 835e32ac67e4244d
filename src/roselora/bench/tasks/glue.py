"""GLUE's eight sets as benchmarks: a model is trained on one set alone, and scored on a half of its validation set.

Files are the official ones or labelled subsets: the TSV files quote nothing, CoLA's have no header, and MRPC's begin
with a byte-order mark. The hub has the sets whole, in Parquet. Labels are the names of classes, except in STS-B, whose
labels are similarities from 0 to 5.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from roselora.bench.tasks.data_files import HubFile, Source, read_source
from roselora.bench.tasks.task import Classification, Question, TaskData
from roselora.user_files import json_value, shown

PROTOCOL = "half of validation"
"""What GLUE's figures are measured on, as reports name it: the labels of the test sets are not public."""

SPLIT_SEED = 0
"""One split for all runs, so that every seed and method is scored on the same examples."""

LARGE, SELECTING = 5000, 1000
"""Of a validation set with more examples than the first number, this many select the model."""

REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
"""The commit of the hub's dataset repository ``nyu-mll/glue``."""

Part = Literal["train", "dev"]
Example = TypeVar("Example")


@dataclass(frozen=True)
class Columns:
    """The fields of a file's records.

    Attributes:
        text, text_pair: the sentences; ``text_pair`` is None for single sentences.
        label: the class, or the similarity.
        numbered: whether classes are written as numbers, not by their names.
    """

    text: str
    text_pair: str | None = None
    label: str = "label"
    numbered: bool = False


@dataclass(frozen=True)
class GlueSet:
    """One set, which is a benchmark of its own.

    Attributes:
        name: of the set, in lower case.
        classes: their names in the order of their numbers; empty for a regression.
        folder: below ``glue/`` in a data folder.
        columns, hub_columns: of the files there, and of the hub's.
        header: the columns of a TSV file whose first line does not name them.
        is_subset: whether the files are labelled subsets in JSON, not the official TSV files.
        hub_validation: the hub's split that is scored on.
    """

    name: str
    classes: tuple[str, ...]
    folder: str
    columns: Columns
    hub_columns: Columns
    header: tuple[str, ...] | None = None
    is_subset: bool = False
    hub_validation: str = "validation"

    @property
    def mix(self) -> str:
        """The name of the training mix in reports."""
        return f"GLUE's {self.name}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of a classifier's outputs, which is alphabetical; empty for STS-B.

        >>> SETS["mrpc"].labels
        ('equivalent', 'not_equivalent')
        """
        return tuple(sorted(self.classes))

    def tasks(self, protocol: str) -> dict[str, Classification]:
        """The half of validation that is scored."""
        return {self.name: Classification(self.name, self._scoring_questions, self.labels)}

    def training_examples(self, protocol: str, data_dir: Path | None) -> TaskData:
        """Every training example: ``text``, ``label``, and for pairs ``text_pair``; raises as `read_part` does."""
        return self.read_part("train", data_dir)

    def validation_examples(self, data_dir: Path | None) -> TaskData:
        """The half of validation that selects a model."""
        read = self.read_part("dev", data_dir)
        selecting, _ = split_validation(read.records, SPLIT_SEED)
        return replace(read, records=selecting)

    def read_part(self, part: Part, data_dir: Path | None) -> TaskData:
        """Every example of a part, in the form of `training_examples`; MNLI's validation on the hub is the matched one.

        Raises:
            ConfigError: the file is missing or of another format, or the hub cannot be reached.
        """
        read = read_source(self._source(part), data_dir)
        return TaskData(read.records, {read.name: read.sha256}, {})

    def _scoring_questions(self, data_dir: Path | None) -> TaskData:
        read = self.read_part("dev", data_dir)
        (source,) = read.sources
        _, scoring = split_validation(list(enumerate(read.records)), SPLIT_SEED)
        questions = [
            Question(f"{source}:{number}", example["text"], str(example["label"]), example.get("text_pair"))
            for number, example in scoring
        ]
        return replace(read, records=questions)

    def _source(self, part: Part) -> Source[dict[str, Any]]:
        split = self.hub_validation if part == "dev" else "train"
        return Source(
            "glue",
            f"{self.folder}/subset_{part}.json" if self.is_subset else f"{self.folder}/{part}.tsv",
            partial(_example, self.classes, self.columns),
            HubFile("nyu-mll/glue", f"{self.name}/{split}-00000-of-00001.parquet", REVISION),
            # The hub numbers every set's classes, and a few of its sentences are blank.
            partial(_example, self.classes, replace(self.hub_columns, numbered=True), blank=True),
            _numbered_object if self.is_subset else partial(_tsv, self.header),
        )


def split_validation(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """The examples that select a model and those that score it, both in the file's order.

    LoReFT's rule with our own random draw: half of them select (the smaller half of an odd number), or 1000 if there
    are more than 5000.

    >>> split_validation("abcde", seed=0)
    (['d', 'e'], ['a', 'b', 'c'])
    """
    count = SELECTING if len(examples) > LARGE else len(examples) // 2
    chosen = set(random.Random(seed).sample(range(len(examples)), count))
    selecting = [example for index, example in enumerate(examples) if index in chosen]
    return selecting, [example for index, example in enumerate(examples) if index not in chosen]


def _example(
    classes: tuple[str, ...], columns: Columns, record: Mapping[str, Any], *, blank: bool = False
) -> dict[str, Any]:
    """A record in the form of `training_examples`; its sentences may be blank only if ``blank`` says so."""
    example = {"text": _sentence(record, columns.text, blank)}
    if columns.text_pair is not None:
        example["text_pair"] = _sentence(record, columns.text_pair, blank)
    return {**example, "label": _label(classes, columns.numbered, record[columns.label])}


def _sentence(record: Mapping[str, Any], field: str, blank: bool) -> str:
    value = record[field]
    if not isinstance(value, str) or not (blank or value.strip()):
        raise ValueError(f"its {field} is {shown(value)}, not a text")
    return value


def _label(classes: tuple[str, ...], numbered: bool, written: Any) -> str | float:
    """A class's name, or a similarity."""
    if not classes:
        similarity = float(written)
        if not 0 <= similarity <= 5:
            raise ValueError(f"its similarity is {shown(written)}, not between 0 and 5")
        return similarity
    names = {str(number) if numbered else name: name for number, name in enumerate(classes)}
    if str(written) not in names:
        raise ValueError(f"its label is {shown(written)}, none of {', '.join(names)}")
    return names[str(written)]


def _tsv(header: Sequence[str] | None, text: str) -> list[dict[str, str]]:
    """The rows of a TSV text by column; without a ``header``, its first line is the header.

    Raises:
        ValueError: it is empty, or a row has another number of cells.
    """
    # Not splitlines, which would also split at separators inside a sentence, such as U+2028.
    lines = [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line]
    if not lines:
        raise ValueError("it is empty")
    rows = [line.split("\t") for line in lines]
    if header is None:
        header, *rows = rows
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(f"record {number} has {len(row)} cells, not {len(header)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _numbered_object(text: str) -> list[Any]:
    """The values of one JSON object whose keys are their numbers."""
    records = json_value(text)
    if not isinstance(records, dict):
        raise ValueError("it is not a JSON object of records")
    return list(records.values())


_ENTAILMENT = ("entailment", "not_entailment")
_SUBSET = Columns("text_a", "text_b")

_ALL = (
    GlueSet(
        "cola",
        ("unacceptable", "acceptable"),
        "CoLA",
        Columns("sentence", numbered=True),
        Columns("sentence"),
        header=("source", "label", "mark", "sentence"),
    ),
    GlueSet("sst2", ("negative", "positive"), "SST-2", Columns("sentence", numbered=True), Columns("sentence")),
    GlueSet(
        "mrpc",
        ("not_equivalent", "equivalent"),
        "MRPC",
        Columns("#1 String", "#2 String", "Quality", numbered=True),
        Columns("sentence1", "sentence2"),
    ),
    GlueSet("stsb", (), "STS-B", Columns("sentence1", "sentence2", "score"), Columns("sentence1", "sentence2")),
    GlueSet(
        "qqp",
        ("not_duplicate", "duplicate"),
        "QQP",
        replace(_SUBSET, numbered=True),
        Columns("question1", "question2"),
        is_subset=True,
    ),
    GlueSet(
        "mnli",
        ("entailment", "neutral", "contradiction"),
        "MNLI",
        _SUBSET,
        Columns("premise", "hypothesis"),
        is_subset=True,
        hub_validation="validation_matched",
    ),
    GlueSet("qnli", _ENTAILMENT, "QNLI", _SUBSET, Columns("question", "sentence"), is_subset=True),
    GlueSet("rte", _ENTAILMENT, "RTE", Columns("sentence1", "sentence2"), Columns("sentence1", "sentence2")),
)

SETS = {glue.name: glue for glue in _ALL}
"""By name. SST-2's training file, MNLI, QQP and QNLI are parts of the official ones."""
