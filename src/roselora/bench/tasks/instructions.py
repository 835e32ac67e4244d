"""Instructions with answers, from a data folder or the hub, as a test's questions or as training's rows."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roselora.bench.tasks.data_files import convert_records, read_data_file
from roselora.bench.tasks.hub_files import HubFile, fetch, read_parquet
from roselora.bench.tasks.task import Question, Read
from roselora.errors import ConfigError
from roselora.files import sha256_file
from roselora.user_files import json_records, shown

ASKED_IN_A_TEST = "its question stands in a test set too"
"""Why a training record is left out."""


@dataclass(frozen=True)
class Instruction:
    """What is asked, and the answer: a test's as it is scored, training's as it is to be said."""

    text: str
    answer: str


Convert = Callable[[Any], Instruction]
"""Turns a record into an instruction; a record of another format is a KeyError, TypeError or ValueError."""


@dataclass(frozen=True)
class HubSource:
    """A Parquet file of the hub, and its reader: the hub has the sets as they were first published."""

    file: HubFile
    convert: Convert


@dataclass(frozen=True)
class Source:
    """A file of instructions.

    Attributes:
        file: its path below a data folder, a JSON list or JSON lines.
        convert: its reader.
        hub: where the hub has the same questions; None if it is not known to.
    """

    file: str
    convert: Convert
    hub: HubSource | None = None


@dataclass(frozen=True)
class _SourceFile:
    name: str
    sha256: str
    instructions: Sequence[Instruction]


def questions(source: Source, ask: Callable[[str], str], data_dir: Path | None) -> Read:
    """A test set's questions, put as a protocol asks them; the key is the file's name and the record's number from 0.

    Raises:
        ConfigError: the file is not to be had, or is of another format.
    """
    file = _read(source, data_dir)
    asked = [
        Question(f"{file.name}:{number}", ask(instruction.text), instruction.answer)
        for number, instruction in enumerate(file.instructions)
    ]
    return Read(asked, {file.name: file.sha256}, {})


def rows(
    sources: Sequence[Source], tests: Sequence[Source], teach: Callable[[str], str], data_dir: Path | None
) -> Read:
    """Training's ``prompt`` and ``completion`` of several files, without the questions that ``tests`` ask too.

    Questions count as the same when their letters and digits are, whatever their case, blanks and punctuation.

    Raises:
        ConfigError: a file is not to be had, or is of another format.
    """
    files = [_read(source, data_dir) for source in sources]
    asked = {_bare(item.text) for test in tests for item in _read(test, data_dir).instructions}
    every = [instruction for file in files for instruction in file.instructions]
    kept = [
        {"prompt": teach(instruction.text), "completion": instruction.answer}
        for instruction in every
        if _bare(instruction.text) not in asked
    ]
    return Read(kept, {file.name: file.sha256 for file in files}, {ASKED_IN_A_TEST: len(every) - len(kept)})


def text(record: Mapping[str, Any], field: str) -> str:
    """A field that must be a text with something in it, as it stands.

    Raises:
        KeyError: there is no such field.
        ValueError: it is something else.
    """
    value = record[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its {field} is {shown(value)}, not a text")
    return value


def _read(source: Source, data_dir: Path | None) -> _SourceFile:
    if data_dir is not None:
        path = data_dir / source.file
        name, instructions = path.name, read_data_file(path, json_records, source.convert)
    elif source.hub is not None:
        path = fetch(source.hub.file, source.file, source.file)
        name = f"{source.hub.file.repository}/{source.hub.file.path}"
        instructions = convert_records(read_parquet(path), source.hub.convert, str(path))
    else:
        raise ConfigError(
            f"No hub repository is known for {source.file}: point --data-dir at a folder that holds that file."
        )
    if not instructions:
        raise ConfigError(f"{path} holds no records: see that it is the benchmark's own file.")
    return _SourceFile(name, sha256_file(path), instructions)


def _bare(question: str) -> str:
    return re.sub(r"[\W_]", "", question.lower())
