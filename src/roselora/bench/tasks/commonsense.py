"""The eight commonsense test sets of LLM-Adapters and LoReFT, and the available part of their training data.

Every set is asked with LLM-Adapters' instruction, which names the choices and the format of the answer. HellaSwag is
read as its authors publish it, and its instruction is built here, letter for letter as LLM-Adapters has it. Answers are
scored against the records' ``answer``.
"""

from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator

from roselora.bench.tasks import prompt_templates as templates
from roselora.bench.tasks.answer_extraction import after_trigger, first_choice, of_response, same
from roselora.bench.tasks.data_files import HubFile, Record, Source, Text
from roselora.bench.tasks.instructions import Instruction, InstructionBenchmark, InstructionSet, PublishedProtocol
from roselora.bench.tasks.task import Decoding
from roselora.user_files import shown

_PROTOCOLS = {
    "llm-adapters": PublishedProtocol(
        test_prompt=templates.llm_adapters_question,
        training_prompt=templates.llm_adapters_training,
        decoding=Decoding(max_new_tokens=32, num_beams=4),
        extraction=lambda choices: partial(of_response, partial(first_choice, choices)),
    ),
    "loreft": PublishedProtocol(
        test_prompt=templates.loreft_commonsense,
        training_prompt=templates.loreft_commonsense,
        decoding=Decoding(max_new_tokens=32),
        extraction=lambda choices: after_trigger,
    ),
}

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


def _training_instruction(choices: tuple[str, ...], record: Any) -> Instruction:
    instruction = _test_instruction(choices, record)
    return Instruction(instruction.text, templates.TRIGGER + instruction.answer)


def _test(name: str, file: str) -> InstructionSet:
    source = Source("commonsense", file, partial(_test_instruction, CHOICES[name]))
    return InstructionSet(source, CHOICES[name], same)


def _training(name: str, file: str) -> Source[Instruction]:
    return Source("commonsense", file, partial(_training_instruction, CHOICES[name]))


_HELLASWAG = Source(
    "commonsense",
    "hellaswag_rubriks.jsonl",
    _hellaswag_instruction,
    # The 10,042 validation records, on which LLM-Adapters tests; the hub's test split has no labels.
    HubFile("Rowan/hellaswag", "data/validation-00000-of-00001.parquet", "218ec52e09a7e7462a5400043bb9a69a41d06b76"),
)

BENCHMARK = InstructionBenchmark(
    _PROTOCOLS,
    tests={
        "boolq": _test("boolq", "boolq_test.json"),
        "piqa": _test("piqa", "piqa_test.json"),
        "social_i_qa": _test("social_i_qa", "social_i_qa_test.json"),
        "hellaswag": InstructionSet(_HELLASWAG, _ENDINGS, same),
        "winogrande": _test("winogrande", "winogrande_test.json"),
        "arc_easy": _test("arc_easy", "ARC-Easy_test.json"),
        "arc_challenge": _test("arc_challenge", "ARC-Challenge_test.json"),
        "openbookqa": _test("openbookqa", "openbookqa_test.json"),
    },
    # Commonsense170K also has PIQA, SIQA, HellaSwag and WinoGrande: figures after that mix are not comparable.
    mix="Commonsense-17K (4 of 8 sources)",
    training=(
        _training("boolq", "boolq_train.json"),
        _training("openbookqa", "openbookqa_train.json"),
        _training("arc_easy", "ARC-Easy_train.json"),
        _training("arc_challenge", "ARC-Challenge_train.json"),
    ),
)
"""Protocols ``llm-adapters`` and ``loreft``. Each completion of the mix reads "the correct answer is X"."""
