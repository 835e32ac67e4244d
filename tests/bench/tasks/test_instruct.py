import json
from pathlib import Path

import pytest

from roselora.bench.records.alpaca_eval import alpaca_eval_outputs
from roselora.bench.records.tuning_bench_records import Answered
from roselora.bench.tasks.instruct import (
    ALPACA_EVAL,
    BENCHMARK,
    read_references,
    reference_of,
)
from roselora.bench.tasks.task import Prediction
from roselora.errors import ConfigError
from tests.bench.conftest import Put

REFERENCES = "instruct/alpaca_eval_text_davinci_003.json"


def test_the_instructions_are_put_in_alpacas_template_and_have_no_score_of_their_own(data: Path) -> None:
    task = BENCHMARK.tasks("loreft")[ALPACA_EVAL]
    read = task.read(data)
    assert [question.key for question in read.records] == [f"{Path(REFERENCES).name}:{number}" for number in range(3)]
    assert read.records[0].prompt.endswith("### Instruction:\nName a metal.\n\n### Response:\n")
    assert task.right is None
    assert task.extract("  Tin.\n") == "Tin."
    assert (task.decoding.no_repeat_ngram_size, task.decoding.repetition_penalty) == (5, 1.1)


def test_training_leaves_out_what_is_asked_later_and_counts_it(data: Path) -> None:
    read = BENCHMARK.training_examples("loreft", data)
    assert [lesson["completion"] for lesson in read.records] == ["The oak.", "The plum."]
    assert list(read.left_out.values()) == [1]


def test_outputs_are_in_alpaca_evals_format_and_order(data: Path) -> None:
    answers = [
        Answered("rose", 0, Prediction(ALPACA_EVAL, f"f:{number}", f" {number} ", f"{number}", float("nan"), ""))
        for number in (2, 0)
    ]
    assert alpaca_eval_outputs(answers, read_references(data), "us") == [
        {"instruction": "Name a metal.", "output": "0", "generator": "us", "dataset": "koala", "datasplit": "eval"},
        {"instruction": "Name a bird.", "output": "2", "generator": "us", "dataset": "koala", "datasplit": "eval"},
    ]


def test_an_answer_to_no_instruction_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="no reference for f:3"):
        reference_of("f:3", read_references(data))


@pytest.mark.parametrize(
    ("name", "record", "says"),
    [
        (REFERENCES, {"instruction": "Name a metal.", "output": None, "dataset": "koala"}, "output is None"),
        (REFERENCES, {"instruction": "Name a metal.", "output": "Iron."}, "dataset"),
        ("instruct/ultrafeedback_1k.json", {"instruction": "Add.", "input": "1 2", "output": "3"}, "an input"),
    ],
)
def test_records_of_another_format_are_refused_with_the_files_name(
    data: Path, put: Put, name: str, record: dict[str, str], says: str
) -> None:
    put(name, [record])
    with pytest.raises(ConfigError, match=rf"{Path(name).name}.*{says}"):
        BENCHMARK.training_examples("loreft", data)  # reads both files


def test_json_lines_are_read_as_well(data: Path) -> None:
    path = data / REFERENCES
    before = BENCHMARK.tasks("loreft")[ALPACA_EVAL].read(data).records
    path.write_text("\n".join(map(json.dumps, json.loads(path.read_text()))))
    assert BENCHMARK.tasks("loreft")[ALPACA_EVAL].read(data).records == before
