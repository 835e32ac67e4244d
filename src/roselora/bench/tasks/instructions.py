"""Benchmarks of instructions: how a published protocol asks them, a test set's questions, and training examples."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roselora.bench.tasks.data_files import Source, read_source
from roselora.bench.tasks.task import Decoding, Question, TaskData
from roselora.errors import ConfigError

ASKED_IN_A_TEST = "its question stands in a test set too"
"""Why a training example is left out."""


@dataclass(frozen=True)
class Instruction:
    """An instruction with its answer: a test set's as it is scored, a training file's as it is to be learned."""

    text: str
    answer: str


@dataclass(frozen=True)
class Protocol:
    """How one family of test sets is asked under one published protocol.

    Attributes:
        test_prompt, training_prompt: an instruction in the protocol's template.
        decoding: how answers are generated.
        extraction: given a test set's form of answer, the function that takes the answer from a generated text.
    """

    test_prompt: Callable[[str], str]
    training_prompt: Callable[[str], str]
    decoding: Decoding
    extraction: Callable[[Any], Callable[[str], str]]


def protocol_named(protocols: Mapping[str, Protocol], name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in protocols:
        raise ConfigError(f"There is no protocol {name!r}: name one of {', '.join(protocols)}.")
    return protocols[name]


def questions(source: Source[Instruction], protocol: Protocol, data_dir: Path | None) -> TaskData:
    """A test set's questions; the key of each is the file's name and the record's number, from 0.

    Raises:
        ConfigError: the file cannot be found, or is of another format.
    """
    read = read_source(source, data_dir)
    asked = [
        Question(f"{read.name}:{number}", protocol.test_prompt(instruction.text), instruction.answer)
        for number, instruction in enumerate(read.records)
    ]
    return TaskData(asked, {read.name: read.sha256}, {})


def training_examples(
    sources: Sequence[Source[Instruction]],
    tests: Sequence[Source[Instruction]],
    protocol: Protocol,
    data_dir: Path | None,
) -> TaskData:
    """The ``prompt`` and ``completion`` of every training record whose question is in none of the ``tests``.

    Two questions are the same if their letters and digits are, whatever their case, blanks and punctuation.

    Raises:
        ConfigError: a file cannot be found, or is of another format.
    """
    files = [read_source(source, data_dir) for source in sources]
    asked = {_letters_of(item.text) for test in tests for item in read_source(test, data_dir).records}
    every = [instruction for file in files for instruction in file.records]
    examples = [
        {"prompt": protocol.training_prompt(instruction.text), "completion": instruction.answer}
        for instruction in every
        if _letters_of(instruction.text) not in asked
    ]
    left_out = {ASKED_IN_A_TEST: len(every) - len(examples)}
    return TaskData(examples, {file.name: file.sha256 for file in files}, left_out)


def _letters_of(question: str) -> str:
    return re.sub(r"[\W_]", "", question.lower())
