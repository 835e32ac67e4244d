"""The eight commonsense test sets of LLM-Adapters and LoReFT, and the part of their training data that is at hand.

Every set is asked with LLM-Adapters' instruction, which names the choices and the format of the answer. HellaSwag is
read as its authors publish it, and its instruction is built here, letter for letter as LLM-Adapters has it. Answers are
scored against the records' ``answer``.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from roselora.bench.tasks import instructions
from roselora.bench.tasks import prompt_templates as templates
from roselora.bench.tasks.answer_extraction import after_trigger, first_choice, of_response, same
from roselora.bench.tasks.data_files import HubFile, Record, Source, Text
from roselora.bench.tasks.instructions import Instruction, Protocol, protocol_named, questions
from roselora.bench.tasks.task import Decoding, Task, TaskData
from roselora.user_files import shown

TRAINING_MIX = "Commonsense-17K (4 of 8 sources)"
"""The name of `training_examples` in reports: it is not Commonsense170K."""

PROTOCOLS = {
    "llm-adapters": Protocol(
        test_prompt=templates.llm_adapters_question,
        training_prompt=templates.llm_adapters_training,
        decoding=Decoding(max_new_tokens=32, num_beams=4),
        extraction=lambda choices: partial(of_response, partial(first_choice, choices)),
    ),
    "loreft": Protocol(
        test_prompt=templates.loreft_commonsense,
        training_prompt=templates.loreft_commonsense,
        decoding=Decoding(max_new_tokens=32),
        extraction=lambda choices: after_trigger,
    ),
}
"""By name."""

# LLM-Adapters has one list for sets of three, four and five choices.
_ANSWERS = ("answer1", "answer2", "answer3", "answer4", "answer5")
_ENDINGS = ("ending1", "ending2", "ending3", "ending4")

CHOICES = {
    "boolq": ("true", "false"),
    "piqa": ("solution1", "solution2"),
    "social_i_qa": _ANSWERS,
    "hellaswag": _ENDINGS,
    "winogrande": ("option1", "option2"),
    "arc_easy": _ANSWERS,
    "arc_challenge": _ANSWERS,
    "openbookqa": _ANSWERS,
}
"""The possible answers of each test set."""


def tasks(protocol: str) -> dict[str, Task]:
    """The eight test sets by name, under ``llm-adapters`` or ``loreft``.

    Raises:
        ConfigError: there is no such protocol.
    """
    chosen = protocol_named(PROTOCOLS, protocol)
    return {
        name: Task(
            name=name,
            protocol=protocol,
            read=partial(questions, source, chosen),
            decoding=chosen.decoding,
            extract=chosen.extraction(CHOICES[name]),
            right=same,
        )
        for name, source in _TESTS.items()
    }


def training_examples(protocol: str, data_dir: Path | None) -> TaskData:
    """Commonsense-17K (4 of 8 sources): BoolQ, OpenBookQA, ARC-Easy and ARC-Challenge, in this order.

    Commonsense170K also has PIQA, SIQA, HellaSwag and WinoGrande, so figures after this mix are not comparable with
    figures after that one. A completion reads "the correct answer is X". Records whose question is in a test set too
    are left out and counted.

    Raises:
        ConfigError: there is no such protocol or no data folder, or a file is missing or of another format.
    """
    return instructions.training_examples(
        _TRAINING, list(_TESTS.values()), protocol_named(PROTOCOLS, protocol), data_dir
    )


class _LlmAdaptersRecord(Record):
    instruction: Text
    answer: str


class _HellaSwagRecord(Record):
    activity_label: Text
    ctx: Text
    endings: list[str]
    label: Annotated[int, BeforeValidator(lambda label: int(str(label)))]  # on the hub a digit as a text


def _test_instruction(choices: tuple[str, ...], record: Any) -> Instruction:
    read = _LlmAdaptersRecord.model_validate(record)
    if read.answer not in choices:
        raise ValueError(f"its answer is {shown(read.answer)}, none of {', '.join(choices)}")
    return Instruction(read.instruction, read.answer)


def _training_instruction(choices: tuple[str, ...], record: Any) -> Instruction:
    instruction = _test_instruction(choices, record)
    return Instruction(instruction.text, templates.TRIGGER + instruction.answer)


def _hellaswag_instruction(record: Any) -> Instruction:
    read = _HellaSwagRecord.model_validate(record)
    if len(read.endings) != len(_ENDINGS) or not 0 <= read.label < len(_ENDINGS):
        raise ValueError(f"it has {len(read.endings)} endings, of which {read.label} is right")
    marked = " ".join(f"Ending{number}: {ending}" for number, ending in enumerate(read.endings, start=1))
    return Instruction(
        "Please choose the correct ending to complete the given sentence: "
        f"{read.activity_label}: {read.ctx}\n\n{marked}\n\nAnswer format: {'/'.join(_ENDINGS)}",
        _ENDINGS[read.label],
    )


def _source(
    name: str, file: str, convert: Callable[[tuple[str, ...], Any], Instruction] = _test_instruction
) -> Source[Instruction]:
    return Source("commonsense", file, partial(convert, CHOICES[name]))


_TESTS = {
    "boolq": _source("boolq", "boolq_test.json"),
    "piqa": _source("piqa", "piqa_test.json"),
    "social_i_qa": _source("social_i_qa", "social_i_qa_test.json"),
    "hellaswag": Source(
        "commonsense",
        "hellaswag_rubriks.jsonl",
        _hellaswag_instruction,
        # The 10,042 validation records, on which LLM-Adapters tests; the hub's test split has no labels.
        HubFile(
            "Rowan/hellaswag", "data/validation-00000-of-00001.parquet", "218ec52e09a7e7462a5400043bb9a69a41d06b76"
        ),
    ),
    "winogrande": _source("winogrande", "winogrande_test.json"),
    "arc_easy": _source("arc_easy", "ARC-Easy_test.json"),
    "arc_challenge": _source("arc_challenge", "ARC-Challenge_test.json"),
    "openbookqa": _source("openbookqa", "openbookqa_test.json"),
}

_TRAINING = (
    _source("boolq", "boolq_train.json", _training_instruction),
    _source("openbookqa", "openbookqa_train.json", _training_instruction),
    _source("arc_easy", "ARC-Easy_train.json", _training_instruction),
    _source("arc_challenge", "ARC-Challenge_train.json", _training_instruction),
)
