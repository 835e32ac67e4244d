"""Instruction following: AlpacaEval's 805 instructions, answered as LoReFT does, in AlpacaEval's own format.

Only a judge can tell how good an answer is: `metrics/judge.py` asks one, and `metrics/likelihood.py` compares answers
without one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roselora.bench.tasks import prompt_templates as templates
from roselora.bench.tasks.data_files import Record, Source, Text, read_source
from roselora.bench.tasks.instructions import Instruction, InstructionBenchmark, InstructionSet, PublishedProtocol
from roselora.bench.tasks.task import Decoding
from roselora.errors import ConfigError

ALPACA_EVAL = "alpaca_eval"

MAX_NEW_TOKENS = 512
"""Our own limit, for models that never end an answer."""

_PROTOCOLS = {
    "loreft": PublishedProtocol(
        test_prompt=templates.loreft_arithmetic,  # Alpaca's template without input, which its instructions have too
        training_prompt=templates.loreft_arithmetic,
        decoding=Decoding(max_new_tokens=MAX_NEW_TOKENS, no_repeat_ngram_size=5, repetition_penalty=1.1),
        extraction=lambda _: str.strip,
    ),
}


class Reference(Record):
    """One record of AlpacaEval's reference outputs, those of text_davinci_003; two of the outputs are empty."""

    instruction: Text
    output: str
    dataset: Text


class _UltraFeedbackRecord(Record):
    instruction: Text
    output: Text
    input: str | None = None


def read_references(data_dir: Path) -> list[Reference]:
    """AlpacaEval's reference outputs, in the order of the file, which is that of the questions' keys.

    Raises:
        ConfigError: the file is missing or of another format.
    """
    return read_source(_REFERENCES, data_dir).records


def reference_of(key: str, references: Sequence[Reference]) -> Reference:
    """The reference for the question of that key.

    Raises:
        ConfigError: there is none, because the run asked another file's questions.
    """
    number = int(key.rpartition(":")[2])
    if number >= len(references):
        raise ConfigError(f"There is no reference for {key}: point --data-dir at the folder that the run read.")
    return references[number]


def _test_instruction(record: Any) -> Instruction:
    reference = Reference.model_validate(record)
    return Instruction(reference.instruction, reference.output)


def _training_instruction(record: Any) -> Instruction:
    read = _UltraFeedbackRecord.model_validate(record)
    if read.input:
        raise ValueError("it has an input, for which the template has no place")
    return Instruction(read.instruction, read.output)


_REFERENCES = Source("instruct", "alpaca_eval_text_davinci_003.json", Reference.model_validate)

BENCHMARK = InstructionBenchmark(
    _PROTOCOLS,
    tests={
        ALPACA_EVAL: InstructionSet(Source(_REFERENCES.folder, _REFERENCES.file, _test_instruction), None, right=None)
    },
    training=(Source("instruct", "ultrafeedback_1k.json", _training_instruction),),
    mix="UltraFeedback-1K",
)
"""Protocol ``loreft``. The mix has a thousand of UltraFeedback's answers."""
