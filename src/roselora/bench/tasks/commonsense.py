"""The eight commonsense test sets of LLM-Adapters and LoReFT, and what of their training data there is.

Every set is asked by LLM-Adapters' instruction, which names the choices and the format of the answer. HellaSwag is read
as its authors publish it, and its instruction is built here, letter for letter as LLM-Adapters has it. Answers are
scored against the records' ``answer``.
"""

from functools import partial
from pathlib import Path
from typing import Any

from roselora.bench.tasks import prompt_templates as templates
from roselora.bench.tasks.answer_extraction import after_trigger, first_choice, of_response, same
from roselora.bench.tasks.hub_files import HubFile
from roselora.bench.tasks.instructions import HubSource, Instruction, Source, questions, rows, text
from roselora.bench.tasks.protocols import Protocol, named
from roselora.bench.tasks.task import Decoding, Read, Task
from roselora.user_files import shown

TRAINING_MIX = "Commonsense-17K (4 of 8 sources)"
"""What `training_rows` gives, in reports: it is not Commonsense170K."""

PROTOCOLS = {
    "llm-adapters": Protocol(
        ask=templates.llm_adapters_question,
        teach=templates.llm_adapters_lesson,
        decoding=Decoding(max_new_tokens=32, num_beams=4),
        extraction=lambda choices: partial(of_response, partial(first_choice, choices)),
    ),
    "loreft": Protocol(
        ask=templates.loreft_commonsense,
        teach=templates.loreft_commonsense,
        decoding=Decoding(max_new_tokens=32),
        extraction=lambda choices: after_trigger,
    ),
}
"""By name."""

# One list for sets of three, four and five choices, as LLM-Adapters has it.
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
"""By test set, what its answers may be."""


def tasks(protocol: str) -> dict[str, Task]:
    """The eight test sets by name, under ``llm-adapters`` or ``loreft``.

    Raises:
        ConfigError: there is no such protocol.
    """
    chosen = named(PROTOCOLS, protocol)
    return {
        name: Task(
            name=name,
            protocol=protocol,
            read=partial(questions, source, chosen.ask),
            decoding=chosen.decoding,
            extract=chosen.extraction(CHOICES[name]),
            right=same,
        )
        for name, source in _TESTS.items()
    }


def training_rows(protocol: str, data_dir: Path | None) -> Read:
    """Commonsense-17K (4 of 8 sources): BoolQ, OpenBookQA, ARC-Easy and ARC-Challenge, in this order.

    Commonsense170K has PIQA, SIQA, HellaSwag and WinoGrande besides; figures after this mix do not stand beside figures
    after that one. A completion reads "the correct answer is X". Records whose question a test set asks too are left
    out, and counted.

    Raises:
        ConfigError: there is no such protocol, no data folder, or a file in it is missing or of another format.
    """
    return rows(_TRAINING, list(_TESTS.values()), named(PROTOCOLS, protocol).teach, data_dir)


def _asked(choices: tuple[str, ...], record: Any) -> Instruction:
    answer = record["answer"]
    if answer not in choices:
        raise ValueError(f"its answer is {shown(answer)}, none of {', '.join(choices)}")
    return Instruction(text(record, "instruction"), answer)


def _taught(choices: tuple[str, ...], record: Any) -> Instruction:
    asked = _asked(choices, record)
    return Instruction(asked.text, templates.TRIGGER + asked.answer)


def _hellaswag(record: Any) -> Instruction:
    context = f"{text(record, 'activity_label')}: {text(record, 'ctx')}"
    marked = [f"Ending{number}: {ending}" for number, ending in enumerate(record["endings"], start=1)]
    label = int(str(record["label"]))  # a number in the authors' files, its digit on the hub
    if len(marked) != len(_ENDINGS) or not 0 <= label < len(_ENDINGS):
        raise ValueError(f"it has {len(marked)} endings, of which {label} is right")
    return Instruction(
        f"Please choose the correct ending to complete the given sentence: {context}\n\n{' '.join(marked)}\n\n"
        f"Answer format: {'/'.join(_ENDINGS)}",
        _ENDINGS[label],
    )


def _test(name: str, file: str) -> Source:
    return Source(f"commonsense/{file}", partial(_asked, CHOICES[name]))


def _train(name: str, file: str) -> Source:
    return Source(f"commonsense/{file}", partial(_taught, CHOICES[name]))


_TESTS = {
    "boolq": _test("boolq", "boolq_test.json"),
    "piqa": _test("piqa", "piqa_test.json"),
    "social_i_qa": _test("social_i_qa", "social_i_qa_test.json"),
    "hellaswag": Source(
        "commonsense/hellaswag_rubriks.jsonl",
        _hellaswag,
        # Of the 10,042 validation records, which LLM-Adapters tests on; the hub's test split has no labels.
        HubSource(
            HubFile(
                "Rowan/hellaswag", "data/validation-00000-of-00001.parquet", "218ec52e09a7e7462a5400043bb9a69a41d06b76"
            ),
            _hellaswag,
        ),
    ),
    "winogrande": _test("winogrande", "winogrande_test.json"),
    "arc_easy": _test("arc_easy", "ARC-Easy_test.json"),
    "arc_challenge": _test("arc_challenge", "ARC-Challenge_test.json"),
    "openbookqa": _test("openbookqa", "openbookqa_test.json"),
}

_TRAINING = (
    _train("boolq", "boolq_train.json"),
    _train("openbookqa", "openbookqa_train.json"),
    _train("arc_easy", "ARC-Easy_train.json"),
    _train("arc_challenge", "ARC-Challenge_train.json"),
)
