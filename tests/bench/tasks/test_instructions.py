"""The instruction benchmarks: commonsense and arithmetic under both protocols."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from roselora.bench.tasks import arithmetic, commonsense
from roselora.bench.tasks import prompt_templates as templates
from roselora.bench.tasks.instructions import ASKED_IN_A_TEST, InstructionBenchmark
from roselora.bench.tasks.task import Question
from roselora.errors import ConfigError
from tests.bench.conftest import FILES

FAMILIES = (commonsense.BENCHMARK, arithmetic.BENCHMARK)


@pytest.mark.parametrize(("protocol", "beams", "tokens"), [("llm-adapters", 4, {32, 256}), ("loreft", 1, {32, 512})])
def test_each_protocol_has_all_twelve_sets_and_its_own_decoding(protocol: str, beams: int, tokens: set[int]) -> None:
    tasks = {**commonsense.BENCHMARK.tasks(protocol), **arithmetic.BENCHMARK.tasks(protocol)}
    assert list(tasks) == [
        *("boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"),
        *("aqua", "gsm8k", "mawps", "svamp"),
    ]
    assert all((task.name, task.protocol) == (name, protocol) for name, task in tasks.items())
    assert {task.decoding.num_beams for task in tasks.values()} == {beams}
    assert {task.decoding.max_new_tokens for task in tasks.values()} == tokens
    assert tasks["boolq"].decoding.max_new_tokens == 32


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_protocol_is_refused_by_naming_those_there_are(family: InstructionBenchmark, data: Path) -> None:
    with pytest.raises(ConfigError, match="no protocol 'alpaca': name one of llm-adapters, loreft"):
        family.tasks("alpaca")
    with pytest.raises(ConfigError, match="no protocol 'alpaca'"):
        family.training_examples("alpaca", data)


def test_questions_are_read_with_their_key_prompt_gold_and_the_files_hash(data: Path) -> None:
    read = commonsense.BENCHMARK.tasks("loreft")["boolq"].read(data)
    assert read.records == [
        Question("boolq_test.json:0", "Is snow cold?\n", "true"),
        Question("boolq_test.json:1", "Is coal white?\n", "false"),
    ]
    content = json.dumps(FILES["commonsense/boolq_test.json"]).encode()
    assert read.sources == {"boolq_test.json": hashlib.sha256(content).hexdigest()}
    assert read.left_out == {}


def test_each_protocol_asks_by_its_own_template(data: Path) -> None:
    def prompt(family: InstructionBenchmark, protocol: str, name: str) -> Any:
        return family.tasks(protocol)[name].read(data).records[0].prompt

    pens = FILES["arithmetic/SVAMP_test.json"][0]["instruction"]
    assert prompt(commonsense.BENCHMARK, "llm-adapters", "boolq") == templates.llm_adapters_question("Is snow cold?")
    assert prompt(arithmetic.BENCHMARK, "llm-adapters", "svamp") == templates.llm_adapters_question(pens)
    assert prompt(arithmetic.BENCHMARK, "loreft", "svamp") == templates.loreft_arithmetic(pens)


def test_hellaswags_own_records_become_llm_adapters_instructions(data: Path) -> None:
    (question,) = commonsense.BENCHMARK.tasks("loreft")["hellaswag"].read(data).records
    assert question == Question(
        "hellaswag_rubriks.jsonl:0",
        "Please choose the correct ending to complete the given sentence: Baking bread: A cook kneads dough. the cook"
        "\n\nEnding1: swims. Ending2: flies off. Ending3: lets it rise. Ending4: , then sings."
        "\n\nAnswer format: ending1/ending2/ending3/ending4\n",
        "ending3",
    )


@pytest.mark.parametrize(
    ("protocol", "name", "said", "gold", "right"),
    [
        ("llm-adapters", "boolq", "It is false.", "false", True),
        ("loreft", "boolq", "It is false.", "false", False),
        ("loreft", "boolq", "the correct answer is false", "false", True),
        ("llm-adapters", "arc_easy", "answer5 ### Response: answer1", "answer5", True),
        ("llm-adapters", "hellaswag", "ending4", "ending3", False),
        ("llm-adapters", "piqa", "solution2!", "solution2", True),
        ("llm-adapters", "winogrande", "option1", "option1", True),
        ("llm-adapters", "gsm8k", "So 5.\n### Response: 6", "5.0", True),
        ("loreft", "gsm8k", "So 5.\n### Response: 6", "5.0", False),
        ("loreft", "mawps", "The answer is 1,200.", "1200.0", True),
        ("loreft", "svamp", "I do not know", "0.0", False),
        ("llm-adapters", "aqua", "A man: (B)", "B", False),
        ("loreft", "aqua", "The answer is (B).", "B", True),
    ],
)
def test_answers_are_scored_by_each_protocols_rule(protocol: str, name: str, said: str, gold: str, right: bool) -> None:
    task = {**commonsense.BENCHMARK.tasks(protocol), **arithmetic.BENCHMARK.tasks(protocol)}[name]
    assert task.right(task.extract(said), gold) is right


def test_the_gold_is_the_answer_and_never_the_model_written_output(data: Path) -> None:
    tasks = arithmetic.BENCHMARK.tasks("llm-adapters")
    assert tasks["aqua"].read(data).records[0].gold == "B"
    assert tasks["gsm8k"].read(data).records[0].gold == "5.0"


def test_commonsense_training_has_four_sources_without_what_a_test_asks(data: Path) -> None:
    read = commonsense.BENCHMARK.training_examples("loreft", data)
    assert read.records == [
        {"prompt": "Is fire hot?\n", "completion": "the correct answer is true"},
        {"prompt": "What sinks?\n", "completion": "the correct answer is answer2"},
        {"prompt": "What floats?\n", "completion": "the correct answer is answer3"},
        {"prompt": "What burns?\n", "completion": "the correct answer is answer4"},
    ]
    # "WHAT  melts" is ARC-Easy's test question in other letters.
    assert read.left_out == {ASKED_IN_A_TEST: 1}
    assert set(read.sources) == {
        *("boolq_train.json", "openbookqa_train.json", "ARC-Easy_train.json", "ARC-Challenge_train.json")
    }


def test_arithmetic_training_ends_in_the_answer_without_the_calculators_notes(data: Path) -> None:
    read = arithmetic.BENCHMARK.training_examples("llm-adapters", data)
    assert [row["completion"] for row in read.records] == [
        "He has 600*2=1200.\nThat is all.\nThe answer is 1,200.",
        "X=(4.0-1.0)\nThe answer is 3.",
        "x=0.5/2\nThe answer is 0.25.",
    ]
    assert read.records[1]["prompt"] == templates.llm_adapters_training("There were 4 cups . 1 broke .")
    assert read.left_out == {ASKED_IN_A_TEST: 1}


def test_what_training_says_is_extracted_as_the_right_answer(data: Path) -> None:
    for protocol in ("llm-adapters", "loreft"):
        gsm8k, mawps = arithmetic.BENCHMARK.training_examples(protocol, data).records[:2]
        task = arithmetic.BENCHMARK.tasks(protocol)["gsm8k"]
        assert task.right(task.extract(gsm8k["completion"]), "1200.0")
        assert task.right(task.extract(mawps["completion"]), "3.0")
        boolq = commonsense.BENCHMARK.training_examples(protocol, data).records[0]
        task = commonsense.BENCHMARK.tasks(protocol)["boolq"]
        assert task.right(task.extract(boolq["completion"]), "true")
