"""GLUE's eight sets as the hub has them: whole, in Parquet, with classes by number."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from roselora.bench.tasks.data_files import convert_records
from roselora.bench.tasks.glue_data import ENTAILMENT, Part, glue_set
from roselora.bench.tasks.hub_files import HubFile, fetch, read_parquet
from roselora.bench.tasks.task import Read
from roselora.files import sha256_file

REPOSITORY, REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@dataclass(frozen=True)
class HubSet:
    """Which columns a set has there.

    Attributes:
        text, text_pair: the sentences; ``text_pair`` is None of single ones.
        classes: their names in the order of the numbers; None of a regression.
        validation: the split that is scored on.
    """

    text: str
    text_pair: str | None
    classes: tuple[str, ...] | None
    validation: str = "validation"


HUB_SETS = {
    "cola": HubSet("sentence", None, ("unacceptable", "acceptable")),
    "sst2": HubSet("sentence", None, ("negative", "positive")),
    "mrpc": HubSet("sentence1", "sentence2", ("not_equivalent", "equivalent")),
    "stsb": HubSet("sentence1", "sentence2", None),
    "qqp": HubSet("question1", "question2", ("not_duplicate", "duplicate")),
    "mnli": HubSet("premise", "hypothesis", ("entailment", "neutral", "contradiction"), "validation_matched"),
    "qnli": HubSet("question", "sentence", ENTAILMENT),
    "rte": HubSet("sentence1", "sentence2", ENTAILMENT),
}
"""By name."""


def hub_rows(name: str, part: Part) -> Read:
    """A part of a set as `glue_data.glue_rows` gives it; MNLI's validation is the matched one.

    Raises:
        ConfigError: there is no such set, or the hub cannot be reached or does not have it.
    """
    instead = f"glue/{glue_set(name).files[part]}"
    split = HUB_SETS[name].validation if part == "dev" else "train"
    file = HubFile(REPOSITORY, f"{name}/{split}-00000-of-00001.parquet", REVISION)
    path = fetch(file, f"GLUE's {name}", instead)
    records = convert_records(read_parquet(path), partial(_row, HUB_SETS[name]), str(path))
    return Read(records, {f"{file.repository}/{file.path}": sha256_file(path)}, {})


def _row(columns: HubSet, record: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"text": str(record[columns.text])}
    if columns.text_pair is not None:
        row["text_pair"] = str(record[columns.text_pair])
    number = record["label"]
    if columns.classes is None:
        return {**row, "label": float(number)}
    if not 0 <= number < len(columns.classes):
        raise ValueError(f"its label is {number}, no class")
    return {**row, "label": columns.classes[number]}
