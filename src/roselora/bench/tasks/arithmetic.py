"""Four arithmetic test sets of LLM-Adapters and LoReFT, and what of their training data there is.

AddSub, MultiArith and SingleEq are left out: MAWPS was gathered from them, so that most of their questions stand in its
training set, and whoever trains on MAWPS has seen them. The model-written ``output`` of a test record is sometimes
wrong: answers are scored against ``answer``.
"""

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

from roselora.bench.tasks import prompt_templates as templates
from roselora.bench.tasks.answer_extraction import LETTERS, close, first_letter, last_number, of_response, same
from roselora.bench.tasks.hub_files import HubFile
from roselora.bench.tasks.instructions import HubSource, Instruction, Source, questions, rows, text
from roselora.bench.tasks.protocols import Protocol, named
from roselora.bench.tasks.task import Decoding, Read, Task
from roselora.user_files import shown

TRAINING_MIX = "Math-9K (2 of 3 sources)"
"""What `training_rows` gives, in reports: it is not Math10K."""

PROTOCOLS = {
    "llm-adapters": Protocol(
        ask=templates.llm_adapters_question,
        teach=templates.llm_adapters_lesson,
        decoding=Decoding(max_new_tokens=256, num_beams=4),
        extraction=lambda rule: partial(of_response, rule),
    ),
    "loreft": Protocol(
        ask=templates.loreft_arithmetic,
        teach=templates.loreft_arithmetic,
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
    chosen = named(PROTOCOLS, protocol)
    made = {}
    for name, source in _TESTS.items():
        rule, right = (first_letter, same) if name == "aqua" else (last_number, close)
        read = partial(questions, source, chosen.ask)
        made[name] = Task(name, protocol, read, chosen.decoding, chosen.extraction(rule), right)
    return made


def training_rows(protocol: str, data_dir: Path | None) -> Read:
    """Math-9K (2 of 3 sources): GSM8K's and MAWPS's training records, in this order.

    Math10K has 1000 of AQuA besides, and its completions were written by ChatGPT. Here GSM8K's are its authors' own,
    without the calculator's notes; MAWPS's are the equation alone, some of which do not give the answer. All end in
    "The answer is X." Records whose question a test set asks too are left out, and counted. Training on MAWPS leaks
    into MultiArith, AddSub and SingleEq, which is why `tasks` has none of them.

    Raises:
        ConfigError: there is no such protocol, no data folder, or a file in it is missing or of another format.
    """
    return rows(_TRAINING, list(_TESTS.values()), named(PROTOCOLS, protocol).teach, data_dir)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"its answer is {shown(value)}, no number")
    return number


def _asked_for_number(record: Any) -> Instruction:
    answer = text(record, "answer")
    _number(answer)
    return Instruction(text(record, "instruction"), answer)


def _asked_for_letter(record: Any) -> Instruction:
    answer = record["answer"]
    if answer not in LETTERS:
        raise ValueError(f"its answer is {shown(answer)}, none of {', '.join(LETTERS)}")
    return Instruction(text(record, "instruction"), answer)


def _gsm8k_solution(record: Any) -> tuple[str, str]:
    """The reasoning and the number of a record of GSM8K's own format."""
    reasoning, mark, answer = text(record, "answer").rpartition("####")
    if not mark:
        raise ValueError("its answer has no '####'")
    _number(answer.replace(",", ""))
    return _CALCULATION.sub("", reasoning).strip(), answer.strip()


def _gsm8k_asked(record: Any) -> Instruction:
    return Instruction(text(record, "question"), _gsm8k_solution(record)[1].replace(",", ""))


def _gsm8k_taught(record: Any) -> Instruction:
    reasoning, answer = _gsm8k_solution(record)
    return Instruction(text(record, "question"), f"{reasoning}\nThe answer is {answer}.")


def _mawps_taught(record: Any) -> Instruction:
    number = _number(record["ans"])  # the file has numbers and texts of numbers
    written = str(int(number)) if number.is_integer() else repr(number)
    return Instruction(text(record, "original_text"), f"{text(record, 'equation')}\nThe answer is {written}.")


_TESTS = {
    "aqua": Source("arithmetic/AQuA_test.json", _asked_for_letter),
    "gsm8k": Source(
        "arithmetic/gsm8k_test.json",
        _asked_for_number,
        HubSource(
            HubFile("openai/gsm8k", "main/test-00000-of-00001.parquet", "740312add88f781978c0658806c59bc2815b9866"),
            _gsm8k_asked,
        ),
    ),
    "mawps": Source("arithmetic/mawps_test.json", _asked_for_number),
    "svamp": Source("arithmetic/SVAMP_test.json", _asked_for_number),
}

_TRAINING = (
    Source("arithmetic/gsm8k_train.jsonl", _gsm8k_taught),
    Source("arithmetic/mawps_trainset.json", _mawps_taught),
)
