"""Four arithmetic test sets of LLM-Adapters and LoReFT, and the available part of their training data.

AddSub, MultiArith and SingleEq are left out: MAWPS was gathered from them, so most of their questions are in its
training set, and a model trained on MAWPS has seen them. The ``output`` of a test record was written by a model and is
sometimes wrong: answers are scored against ``answer``.
"""

import math
import re
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from roselora.bench.tasks import prompt_templates as templates
from roselora.bench.tasks.answer_extraction import close, first_letter, last_number, of_response, same
from roselora.bench.tasks.data_files import HubFile, Record, Source, Text
from roselora.bench.tasks.instructions import Instruction, InstructionBenchmark, InstructionSet, PublishedProtocol
from roselora.bench.tasks.task import Decoding
from roselora.user_files import shown

_PROTOCOLS = {
    "llm-adapters": PublishedProtocol(
        test_prompt=templates.llm_adapters_question,
        training_prompt=templates.llm_adapters_training,
        decoding=Decoding(max_new_tokens=256, num_beams=4),
        extraction=lambda rule: partial(of_response, rule),
    ),
    "loreft": PublishedProtocol(
        test_prompt=templates.loreft_arithmetic,
        training_prompt=templates.loreft_arithmetic,
        decoding=Decoding(max_new_tokens=512),
        extraction=lambda rule: rule,
    ),
}

_CALCULATION = re.compile(r"<<[^<>]*>>")


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{shown(value)} is not a finite number")
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


def _number_set(file: str) -> InstructionSet:
    return InstructionSet(Source("arithmetic", file, _number_instruction), last_number, close)


_GSM8K = Source(
    "arithmetic",
    "gsm8k_test.json",
    _number_instruction,
    HubFile("openai/gsm8k", "main/test-00000-of-00001.parquet", "740312add88f781978c0658806c59bc2815b9866"),
    _gsm8k_test_instruction,
)

BENCHMARK = InstructionBenchmark(
    _PROTOCOLS,
    tests={
        "aqua": InstructionSet(Source("arithmetic", "AQuA_test.json", _letter_instruction), first_letter, same),
        "gsm8k": InstructionSet(_GSM8K, last_number, close),
        "mawps": _number_set("mawps_test.json"),
        "svamp": _number_set("SVAMP_test.json"),
    },
    # Not Math10K, which also has 1000 records of AQuA, and whose completions were written by ChatGPT.
    mix="Math-9K (2 of 3 sources)",
    training=(
        Source("arithmetic", "gsm8k_train.jsonl", _gsm8k_training_instruction),
        Source("arithmetic", "mawps_trainset.json", _mawps_training_instruction),
    ),
)
"""Protocols ``llm-adapters`` and ``loreft``. Each completion of the mix ends in "The answer is X.".

GSM8K's completions are its authors' own, without the calculator's notes. MAWPS's are the equation alone, which in some
records does not give the answer.
"""
