"""Four arithmetic test sets of LLM-Adapters and LoReFT, and the part of their training data that is at hand.

AddSub, MultiArith and SingleEq are left out: MAWPS was gathered from them, so most of their questions are in its
training set, and a model trained on MAWPS has seen them. The ``output`` of a test record was written by a model and is
sometimes wrong: answers are scored against ``answer``.
"""

import math
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from roselora.bench.tasks import instructions
from roselora.bench.tasks import prompt_templates as templates
from roselora.bench.tasks.answer_extraction import close, first_letter, last_number, of_response, same
from roselora.bench.tasks.data_files import HubFile, Record, Source, Text
from roselora.bench.tasks.instructions import Instruction, Protocol, protocol_named, questions
from roselora.bench.tasks.task import Decoding, Task, TaskData
from roselora.user_files import shown

TRAINING_MIX = "Math-9K (2 of 3 sources)"
"""The name of `training_examples` in reports: it is not Math10K."""

PROTOCOLS = {
    "llm-adapters": Protocol(
        test_prompt=templates.llm_adapters_question,
        training_prompt=templates.llm_adapters_training,
        decoding=Decoding(max_new_tokens=256, num_beams=4),
        extraction=lambda rule: partial(of_response, rule),
    ),
    "loreft": Protocol(
        test_prompt=templates.loreft_arithmetic,
        training_prompt=templates.loreft_arithmetic,
        decoding=Decoding(max_new_tokens=512),
        extraction=lambda rule: rule,
    ),
}
"""By name."""

_CALCULATION = re.compile(r"<<[^<>]*>>")


def tasks(protocol: str) -> dict[str, Task]:
    """AQuA, GSM8K, MAWPS and SVAMP by name, under ``llm-adapters`` or ``loreft``.

    Raises:
        ConfigError: there is no such protocol.
    """
    chosen = protocol_named(PROTOCOLS, protocol)
    found = {}
    for name, source in _TESTS.items():
        rule, right = (first_letter, same) if name == "aqua" else (last_number, close)
        read = partial(questions, source, chosen)
        found[name] = Task(name, protocol, read, chosen.decoding, chosen.extraction(rule), right)
    return found


def training_examples(protocol: str, data_dir: Path | None) -> TaskData:
    """Math-9K (2 of 3 sources): the training records of GSM8K and MAWPS, in this order.

    Math10K also has 1000 records of AQuA, and its completions were written by ChatGPT. Here GSM8K's are its authors'
    own, without the calculator's notes, and MAWPS's are the equation alone, which sometimes does not give the answer.
    All end in "The answer is X." Records whose question is in a test set too are left out and counted. Training on
    MAWPS leaks into MultiArith, AddSub and SingleEq, which is why `tasks` has none of them.

    Raises:
        ConfigError: there is no such protocol or no data folder, or a file is missing or of another format.
    """
    return instructions.training_examples(
        _TRAINING, list(_TESTS.values()), protocol_named(PROTOCOLS, protocol), data_dir
    )


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{shown(value)} is no finite number")
    return number


def _written_number(text: str) -> str:
    _number(text)
    return text


class _NumberRecord(Record):
    instruction: Text
    answer: Annotated[str, AfterValidator(_written_number)]


class _LetterRecord(Record):
    instruction: Text
    answer: Literal["A", "B", "C", "D", "E"]


class _Gsm8kRecord(Record):
    question: Text
    answer: str

    @property
    def solution(self) -> tuple[str, str]:
        """The reasoning and the number."""
        reasoning, mark, number = self.answer.rpartition("####")
        if not mark:
            raise ValueError("its answer has no '####'")
        _number(number.replace(",", ""))
        return _CALCULATION.sub("", reasoning).strip(), number.strip()


class _MawpsRecord(Record):
    original_text: Text
    equation: Text
    ans: Annotated[float, BeforeValidator(_number)]  # the file has numbers and texts of numbers


def _number_instruction(record: Any) -> Instruction:
    read = _NumberRecord.model_validate(record)
    return Instruction(read.instruction, read.answer)


def _letter_instruction(record: Any) -> Instruction:
    read = _LetterRecord.model_validate(record)
    return Instruction(read.instruction, read.answer)


def _gsm8k_test_instruction(record: Any) -> Instruction:
    read = _Gsm8kRecord.model_validate(record)
    return Instruction(read.question, read.solution[1].replace(",", ""))


def _gsm8k_training_instruction(record: Any) -> Instruction:
    read = _Gsm8kRecord.model_validate(record)
    reasoning, number = read.solution
    return Instruction(read.question, f"{reasoning}\nThe answer is {number}.")


def _mawps_training_instruction(record: Any) -> Instruction:
    read = _MawpsRecord.model_validate(record)
    written = str(int(read.ans)) if read.ans.is_integer() else repr(read.ans)
    return Instruction(read.original_text, f"{read.equation}\nThe answer is {written}.")


_TESTS = {
    "aqua": Source("arithmetic", "AQuA_test.json", _letter_instruction),
    "gsm8k": Source(
        "arithmetic",
        "gsm8k_test.json",
        _number_instruction,
        HubFile("openai/gsm8k", "main/test-00000-of-00001.parquet", "740312add88f781978c0658806c59bc2815b9866"),
        _gsm8k_test_instruction,
    ),
    "mawps": Source("arithmetic", "mawps_test.json", _number_instruction),
    "svamp": Source("arithmetic", "SVAMP_test.json", _number_instruction),
}

_TRAINING = (
    Source("arithmetic", "gsm8k_train.jsonl", _gsm8k_training_instruction),
    Source("arithmetic", "mawps_trainset.json", _mawps_training_instruction),
)
