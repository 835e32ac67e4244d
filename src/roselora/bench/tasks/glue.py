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
from roselora.errors import ConfigError
from roselora.user_files import json_value, shown

PROTOCOL = "half of validation"
"""What GLUE's figures are measured on, as reports name it: the labels of the test sets are not public."""

SPLIT_SEED = 0
"""One split for all runs, so that every seed and method is scored on the same examples."""

LARGE, SELECTING = 5000, 1000
"""Of a validation set with more examples than the first number, so many select the model."""

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
    """One set.

    Attributes:
        classes: their names in the order of their numbers; empty for a regression.
        folder: below ``glue/`` in a data folder.
        columns, hub_columns: of the files there, and of the hub's.
        header: the columns of a TSV file whose first line does not name them.
        is_subset: whether the files are labelled subsets in JSON, not the official TSV files.
        hub_validation: the hub's split that is scored on.
    """

    classes: tuple[str, ...]
    folder: str
    columns: Columns
    hub_columns: Columns
    header: tuple[str, ...] | None = None
    is_subset: bool = False
    hub_validation: str = "validation"


_ENTAILMENT = ("entailment", "not_entailment")
_SUBSET = Columns("text_a", "text_b")

SETS = {
    "cola": GlueSet(
        ("unacceptable", "acceptable"),
        "CoLA",
        Columns("sentence", numbered=True),
        Columns("sentence"),
        header=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueSet(("negative", "positive"), "SST-2", Columns("sentence", numbered=True), Columns("sentence")),
    "mrpc": GlueSet(
        ("not_equivalent", "equivalent"),
        "MRPC",
        Columns("#1 String", "#2 String", "Quality", numbered=True),
        Columns("sentence1", "sentence2"),
    ),
    "stsb": GlueSet((), "STS-B", Columns("sentence1", "sentence2", "score"), Columns("sentence1", "sentence2")),
    "qqp": GlueSet(
        ("not_duplicate", "duplicate"),
        "QQP",
        replace(_SUBSET, numbered=True),
        Columns("question1", "question2"),
        is_subset=True,
    ),
    "mnli": GlueSet(
        ("entailment", "neutral", "contradiction"),
        "MNLI",
        _SUBSET,
        Columns("premise", "hypothesis"),
        is_subset=True,
        hub_validation="validation_matched",
    ),
    "qnli": GlueSet(_ENTAILMENT, "QNLI", _SUBSET, Columns("question", "sentence"), is_subset=True),
    "rte": GlueSet(_ENTAILMENT, "RTE", Columns("sentence1", "sentence2"), Columns("sentence1", "sentence2")),
}
"""By name. SST-2's training file, MNLI, QQP and QNLI are parts of the official ones."""


def task(name: str) -> Classification:
    """The scoring half of a set's validation."""
    return Classification(name, PROTOCOL, partial(_scoring_questions, name), labels(name))


def labels(name: str) -> tuple[str, ...]:
    """The classes of a set in the order of a classifier's outputs, which is alphabetical; empty for STS-B.

    >>> labels("mrpc")
    ('equivalent', 'not_equivalent')
    """
    return tuple(sorted(_set_named(name).classes))


def training_examples(name: str, data_dir: Path | None) -> TaskData:
    """A set's training examples: ``text``, ``label``, and for pairs ``text_pair``.

    Raises:
        ConfigError: there is no such set, its file is missing or of another format, or the hub cannot be reached.
    """
    return read_part(name, "train", data_dir)


def validation_examples(name: str, data_dir: Path | None) -> TaskData:
    """The half of validation that selects a model, in the form of `training_examples`; raises the same errors."""
    read = read_part(name, "dev", data_dir)
    selecting, _ = split_validation(read.records, SPLIT_SEED)
    return TaskData(selecting, read.sources, read.left_out)


def read_part(name: str, part: Part, data_dir: Path | None) -> TaskData:
    """Every example of a part of a set, in the form of `training_examples`; raises the same errors.

    MNLI's validation on the hub is the matched one.
    """
    read = read_source(_source(name, part), data_dir)
    return TaskData(read.records, {read.name: read.sha256}, {})


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


def _scoring_questions(name: str, data_dir: Path | None) -> TaskData:
    read = read_part(name, "dev", data_dir)
    (source,) = read.sources
    _, scoring = split_validation(list(enumerate(read.records)), SPLIT_SEED)
    questions = [
        Question(f"{source}:{number}", example["text"], str(example["label"]), example.get("text_pair"))
        for number, example in scoring
    ]
    return TaskData(questions, read.sources, read.left_out)


def _set_named(name: str) -> GlueSet:
    if name not in SETS:
        raise ConfigError(f"GLUE has no set {name!r} here: name one of {', '.join(SETS)}.")
    return SETS[name]


def _source(name: str, part: Part) -> Source[dict[str, Any]]:
    glue = _set_named(name)
    split = glue.hub_validation if part == "dev" else "train"
    return Source(
        "glue",
        f"{glue.folder}/subset_{part}.json" if glue.is_subset else f"{glue.folder}/{part}.tsv",
        partial(_example, glue.classes, glue.columns),
        HubFile("nyu-mll/glue", f"{name}/{split}-00000-of-00001.parquet", REVISION),
        # The hub numbers every set's classes, and a few of its sentences are blank.
        partial(_example, glue.classes, replace(glue.hub_columns, numbered=True), blank=True),
        _numbered_object if glue.is_subset else partial(_tsv, glue.header),
    )


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
            raise ValueError(f"its similarity is {shown(written)}, not within 0 and 5")
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
        raise ValueError("it is no JSON object of records")
    return list(records.values())
