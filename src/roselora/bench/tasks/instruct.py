"""Instruction following: AlpacaEval's 805 instructions, answered as LoReFT does, in AlpacaEval's own format.

What an answer is worth only a judge can say; `judge.py` asks one, and `likelihood.py` compares without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from roselora.bench.tasks import prompt_templates as templates
from roselora.bench.tasks.data_files import read_data_file
from roselora.bench.tasks.instructions import Instruction, Source, questions, rows, text
from roselora.bench.tasks.protocols import Protocol, named
from roselora.bench.tasks.task import Decoding, Read, Task
from roselora.errors import ConfigError
from roselora.user_files import json_records, shown

TRAINING_MIX = "UltraFeedback-1K"
"""What `training_rows` gives, in reports: a thousand records of UltraFeedback's answers."""

ALPACA_EVAL = "alpaca_eval"
REFERENCES = "instruct/alpaca_eval_text_davinci_003.json"

MAX_NEW_TOKENS = 512
"""Ours: a bound for models that do not end."""

PROTOCOLS = {
    "loreft": Protocol(
        ask=templates.loreft_arithmetic,  # Alpaca's template without input, which its instructions have too
        teach=templates.loreft_arithmetic,
        decoding=Decoding(max_new_tokens=MAX_NEW_TOKENS, no_repeat_ngram_size=5, repetition_penalty=1.1),
        extraction=lambda _: str.strip,
    ),
}
"""By name."""


@dataclass(frozen=True)
class Reference:
    """One record of AlpacaEval's reference outputs, those of text_davinci_003."""

    instruction: str
    output: str
    dataset: str


def tasks(protocol: str) -> dict[str, Task]:
    """AlpacaEval by name, whose answers have no score of their own.

    Raises:
        ConfigError: there is no such protocol.
    """
    chosen = named(PROTOCOLS, protocol)
    read = partial(questions, _TEST, chosen.ask)
    return {ALPACA_EVAL: Task(ALPACA_EVAL, protocol, read, chosen.decoding, chosen.extraction(None), None)}


def training_rows(protocol: str, data_dir: Path | None) -> Read:
    """UltraFeedback's records, without those that AlpacaEval asks too, which are counted.

    Raises:
        ConfigError: there is no such protocol, no data folder, or a file in it is missing or of another format.
    """
    return rows(_TRAINING, [_TEST], named(PROTOCOLS, protocol).teach, data_dir)


def read_references(data_dir: Path) -> list[Reference]:
    """AlpacaEval's reference outputs, in the order of the file, which is that of the questions' keys.

    Raises:
        ConfigError: the file is missing or of another format.
    """
    return read_data_file(data_dir / REFERENCES, json_records, _reference)


def reference_of(key: str, references: Sequence[Reference]) -> Reference:
    """The reference to the question of that key.

    Raises:
        ConfigError: there is none: the run asked another file's questions.
    """
    number = int(key.rpartition(":")[2])
    if number >= len(references):
        raise ConfigError(
            f"There is no reference for {key}: point --data-dir at the folder that the run was asked from."
        )
    return references[number]


def _reference(record: Any) -> Reference:
    output = record["output"]
    if not isinstance(output, str):  # two of the references are empty
        raise ValueError(f"its output is {shown(output)}, not a text")
    return Reference(text(record, "instruction"), output, text(record, "dataset"))


def _asked(record: Any) -> Instruction:
    reference = _reference(record)
    return Instruction(reference.instruction, reference.output)


def _taught(record: Any) -> Instruction:
    if record.get("input"):
        raise ValueError("it has an input, which the template has no place for")
    return Instruction(text(record, "instruction"), text(record, "output"))


_TEST = Source(REFERENCES, _asked)
_TRAINING = (Source("instruct/ultrafeedback_1k.json", _taught),)
