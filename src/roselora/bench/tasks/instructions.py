"""Benchmarks of instructions: a published protocol's prompts, decoding and extraction over files of instructions."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from roselora.bench.tasks.data_files import Source, read_source
from roselora.bench.tasks.task import Decoding, Question, Task, TaskData
from roselora.errors import ConfigError

ASKED_IN_A_TEST = "its question is in a test set too"
"""Why a training example is left out."""


@dataclass(frozen=True)
class Instruction:
    """An instruction with its answer: a test set's as it is scored, a training file's as it is to be learned."""

    text: str
    answer: str


@dataclass(frozen=True)
class PublishedProtocol:
    """How one family of test sets is asked under one published protocol.

    Attributes:
        test_prompt, training_prompt: an instruction in the protocol's template.
        decoding: how answers are generated.
        extraction: given a test set's ``answer_form``, the function that takes the answer from a generated text.
    """

    test_prompt: Callable[[str], str]
    training_prompt: Callable[[str], str]
    decoding: Decoding
    extraction: Callable[[Any], Callable[[str], str]]


@dataclass(frozen=True)
class InstructionSet:
    """One test set.

    Attributes:
        source: its file.
        answer_form: what its answers look like, as the protocols' ``extraction`` expects it.
        right: whether an extracted answer is right, given the gold one; None where only a judge can tell.
    """

    source: Source[Instruction]
    answer_form: Any
    right: Callable[[str, str], bool] | None


@dataclass(frozen=True)
class InstructionBenchmark:
    """Test sets whose answers are generated, and the training mix that a model learns before it is asked.

    Attributes:
        protocols, tests: by name.
        training: the files of the training mix, in order; ``mix``: its name in reports.
        labels: none, as no class is predicted.
    """

    protocols: Mapping[str, PublishedProtocol]
    tests: Mapping[str, InstructionSet]
    training: Sequence[Source[Instruction]]
    mix: str
    labels: ClassVar[None] = None

    def tasks(self, protocol: str) -> dict[str, Task]:
        """The test sets by name, under a protocol.

        Raises:
            ConfigError: there is no such protocol.
        """
        chosen = self._protocol(protocol)
        return {
            name: Task(
                name=name,
                protocol=protocol,
                read=partial(_questions, test.source, chosen.test_prompt),
                decoding=chosen.decoding,
                extract=chosen.extraction(test.answer_form),
                right=test.right,
            )
            for name, test in self.tests.items()
        }

    def training_examples(self, protocol: str, data_dir: Path | None) -> TaskData:
        """The ``prompt`` and ``completion`` of every training record whose question is in no test set.

        Two questions are the same if their letters and digits are, whatever their case, whitespace and punctuation.

        Raises:
            ConfigError: there is no such protocol, or a file cannot be found or is of another format.
        """
        chosen = self._protocol(protocol)
        files = [read_source(source, data_dir) for source in self.training]
        tests = [read_source(test.source, data_dir) for test in self.tests.values()]
        asked = {_letters_of(instruction.text) for test in tests for instruction in test.records}
        every = [instruction for file in files for instruction in file.records]
        examples = [
            {"prompt": chosen.training_prompt(instruction.text), "completion": instruction.answer}
            for instruction in every
            if _letters_of(instruction.text) not in asked
        ]
        left_out = {ASKED_IN_A_TEST: len(every) - len(examples)}
        return TaskData(examples, {file.name: file.sha256 for file in files}, left_out)

    def validation_examples(self, data_dir: Path | None) -> None:
        """There are none but the mix's own."""

    def _protocol(self, name: str) -> PublishedProtocol:
        if name not in self.protocols:
            raise ConfigError(f"There is no protocol {name!r}: name one of {', '.join(self.protocols)}.")
        return self.protocols[name]


def _questions(source: Source[Instruction], prompt: Callable[[str], str], data_dir: Path | None) -> TaskData:
    """A test set's questions; the key of each is the file's name and the record's number, from 0."""
    read = read_source(source, data_dir)
    questions = [
        Question(f"{read.name}:{number}", prompt(instruction.text), instruction.answer)
        for number, instruction in enumerate(read.records)
    ]
    return TaskData(questions, {read.name: read.sha256}, {})


def _letters_of(question: str) -> str:
    return re.sub(r"[\W_]", "", question.lower())
