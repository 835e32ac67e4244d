"""GLUE's eight sets, as the official files and the labelled subsets have them.

The TSV files quote nothing, CoLA's have no header, and MRPC's begin with a byte-order mark. Labels are names, as a
classifier shall have them, but for STS-B, whose are similarities from 0 to 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from roselora.bench.tasks.data_files import read_data_file
from roselora.bench.tasks.task import Read
from roselora.errors import ConfigError
from roselora.files import sha256_file
from roselora.user_files import json_value, shown

Part = Literal["train", "dev"]

ENTAILMENT = ("entailment", "not_entailment")


@dataclass(frozen=True)
class GlueSet:
    """Where a set's columns are.

    Attributes:
        files: of a part, below ``glue/``.
        parse: a file's text to its records.
        text, text_pair, label: fields of a record; ``text_pair`` is None of single sentences.
        labels: from what the file writes to the class's name; None of a regression.
    """

    files: Mapping[Part, str]
    parse: Callable[[str], list[Any]]
    text: str
    text_pair: str | None
    label: str
    labels: Mapping[str, str] | None


def glue_rows(name: str, part: Part, data_dir: Path) -> Read:
    """A part of a set as rows ``text``, maybe ``text_pair``, and ``label``: a class's name, or for STS-B a number.

    Raises:
        ConfigError: there is no such set, or its file is missing or of another format.
    """
    glue = glue_set(name)
    path = data_dir / "glue" / glue.files[part]
    records = read_data_file(path, glue.parse, partial(_row, glue))
    if not records:
        raise ConfigError(f"{path} holds no records: see that it is the benchmark's own file.")
    return Read(records, {glue.files[part]: sha256_file(path)}, {})


def glue_set(name: str) -> GlueSet:
    """The set of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SETS:
        raise ConfigError(f"GLUE has no set {name!r} here: name one of {', '.join(SETS)}.")
    return SETS[name]


def _row(glue: GlueSet, record: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"text": _text(record, glue.text)}
    if glue.text_pair is not None:
        row["text_pair"] = _text(record, glue.text_pair)
    written = record[glue.label]
    if glue.labels is None:
        similarity = float(written)
        if not 0 <= similarity <= 5:
            raise ValueError(f"its similarity is {written}, not within 0 and 5")
        return {**row, "label": similarity}
    if written not in glue.labels:
        raise ValueError(f"its label is {shown(written)}, none of {', '.join(glue.labels)}")
    return {**row, "label": glue.labels[written]}


def _text(record: Mapping[str, str], field: str) -> str:
    value = record[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its {field} is {shown(value)}, not a text")
    return value


def _with_header(text: str) -> list[dict[str, str]]:
    header, *lines = _lines(text)
    return [_cells(line, header.split("\t"), number) for number, line in enumerate(lines)]


def _without_header(columns: tuple[str, ...], text: str) -> list[dict[str, str]]:
    return [_cells(line, list(columns), number) for number, line in enumerate(_lines(text))]


def _lines(text: str) -> list[str]:
    # Not splitlines: sentences hold separators of other kinds.
    found = [line.removesuffix("\r") for line in text.split("\n")]
    lines = [line for line in found if line]
    if not lines:
        raise ValueError("it is empty")
    return lines


def _cells(line: str, columns: list[str], number: int) -> dict[str, str]:
    cells = line.split("\t")
    if len(cells) != len(columns):
        raise ValueError(f"record {number} has {len(cells)} cells, not {len(columns)}")
    return dict(zip(columns, cells, strict=True))


def _numbered(text: str) -> list[Any]:
    """The values of one JSON object whose keys count."""
    records = json_value(text)
    if not isinstance(records, dict):
        raise ValueError("no object of records")
    return list(records.values())


def _official(folder: str) -> dict[Part, str]:
    return {"train": f"{folder}/train.tsv", "dev": f"{folder}/dev.tsv"}


def _subset(folder: str, labels: tuple[str, ...] | Mapping[str, str]) -> GlueSet:
    names = labels if isinstance(labels, Mapping) else {label: label for label in labels}
    files: dict[Part, str] = {"train": f"{folder}/subset_train.json", "dev": f"{folder}/subset_dev.json"}
    return GlueSet(files, _numbered, "text_a", "text_b", "label", names)


_PARAPHRASE = {"0": "not_equivalent", "1": "equivalent"}

SETS = {
    "cola": GlueSet(
        _official("CoLA"),
        partial(_without_header, ("source", "label", "mark", "sentence")),
        "sentence",
        None,
        "label",
        {"0": "unacceptable", "1": "acceptable"},
    ),
    "sst2": GlueSet(_official("SST-2"), _with_header, "sentence", None, "label", {"0": "negative", "1": "positive"}),
    "mrpc": GlueSet(_official("MRPC"), _with_header, "#1 String", "#2 String", "Quality", _PARAPHRASE),
    "stsb": GlueSet(_official("STS-B"), _with_header, "sentence1", "sentence2", "score", None),
    "qqp": _subset("QQP", {"0": "not_duplicate", "1": "duplicate"}),
    "mnli": _subset("MNLI", ("entailment", "neutral", "contradiction")),
    "qnli": _subset("QNLI", ENTAILMENT),
    "rte": GlueSet(
        _official("RTE"), _with_header, "sentence1", "sentence2", "label", {label: label for label in ENTAILMENT}
    ),
}
"""By name: SST-2's training file, MNLI, QQP and QNLI are cuts of the official ones."""
