"""A data folder of the shape that the commonsense and arithmetic sets have, with our own questions."""

import csv
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # most tests of bench need no training, whose imports take long
    from roselora.bench.running.tuning_plan import TuningRequest

Put = Callable[[str, Any], None]

HELLASWAG = {
    "ind": 7,
    "activity_label": "Baking bread",
    "ctx_a": "A cook kneads dough.",
    "ctx_b": "the cook",
    "ctx": "A cook kneads dough. the cook",
    "label": 2,
    "endings": ["swims.", "flies off.", "lets it rise.", ", then sings."],
}


def record(instruction: str, answer: str, output: str = "") -> dict[str, str]:
    return {"instruction": instruction, "input": "", "output": output, "answer": answer}


FILES: dict[str, list[Any]] = {
    "commonsense/boolq_test.json": [record("Is snow cold?", "true"), record("Is coal white?", "false")],
    "commonsense/piqa_test.json": [record("How to dry?", "solution2")],
    "commonsense/social_i_qa_test.json": [record("Why did Ada run?", "answer3")],
    "commonsense/hellaswag_rubriks.jsonl": [HELLASWAG],
    "commonsense/winogrande_test.json": [record("The _ fits.", "option1")],
    "commonsense/ARC-Easy_test.json": [record("What melts?", "answer5")],
    "commonsense/ARC-Challenge_test.json": [record("What rusts?", "answer4")],
    "commonsense/openbookqa_test.json": [record("What grows?", "answer1")],
    "commonsense/boolq_train.json": [record("Is fire hot?", "true", "the correct answer is true")],
    "commonsense/openbookqa_train.json": [record("What sinks?", "answer2")],
    "commonsense/ARC-Easy_train.json": [record("What floats?", "answer3"), record("WHAT  melts", "answer5")],
    "commonsense/ARC-Challenge_train.json": [record("What burns?", "answer4")],
    "arithmetic/AQuA_test.json": [record("2+3? Answer Choices: (A) 4 (B) 5", "B", "The answer is (A).")],
    "arithmetic/gsm8k_test.json": [record("Ada has 2 pears and buys 3. How many?", "5.0", "The answer is 6.")],
    "arithmetic/mawps_test.json": [record("There were 9 birds . 2 left . How many are there ?", "7.0")],
    "arithmetic/SVAMP_test.json": [record("Of 8 pens 3 are red. How many are not?", "5.0")],
    "arithmetic/gsm8k_train.jsonl": [
        {
            "question": "Bo has 600 pins twice. How many?",
            "answer": "He has 600*2=<<600*2=1200>>1200.\nThat is all.\n#### 1,200",
        }
    ],
    "arithmetic/mawps_trainset.json": [
        {"original_text": "There were 4 cups . 1 broke .", "equation": "X=(4.0-1.0)", "ans": 3.0},
        {"original_text": "Half of 0.5 l ?", "equation": "x=0.5/2", "ans": "0.25"},
        {"original_text": "There were 9 birds. 2 left. How many are there?", "equation": "x=9-2", "ans": 7.0},
    ],
    "instruct/alpaca_eval_text_davinci_003.json": [
        {"instruction": "Name a metal.", "output": "Iron.", "dataset": "koala"},
        {"instruction": "Write nothing.", "output": "", "dataset": "vicuna"},
        {"instruction": "Name a bird.", "output": "The wren.", "dataset": "koala"},
    ],
    "instruct/ultrafeedback_1k.json": [
        {"instruction": "Name a tree.", "input": "", "output": "The oak."},
        {"instruction": "Name a  bird.", "output": "An owl."},
        {"instruction": "Name a fruit.", "output": "The plum."},
    ],
}


def write_file(folder: Path, name: str, content: Any) -> None:
    """Write a file of a data folder, as JSON or JSON lines by its name; a text as it is."""
    if name.endswith(".jsonl") and not isinstance(content, str):
        content = "\n".join(map(json.dumps, content)) + "\n"
    elif not isinstance(content, str):
        content = json.dumps(content)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")


def write_data(folder: Path) -> None:
    """Write every file of a data folder."""
    for name, records in FILES.items():
        write_file(folder, name, records)


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a file of the data folder."""
    return partial(write_file, tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder, whole."""
    write_data(tmp_path)
    return tmp_path


QUESTIONS = (
    ("What is the capital of France?", ("London", "Paris", "Oslo", "a town"), 2),
    ("Which metal has the symbol Fe?", ("iron", "gold"), 1),
    ("What falls in winter?", ("snow", "coal and other stones", "hay"), 1),
)


def arc_record(question: str, choices: tuple[str, ...], answer: int) -> dict[str, str]:
    marked = " ".join(f"Answer{number}: {choice}" for number, choice in enumerate(choices, 1))
    names = "/".join(f"answer{number}" for number in range(1, len(choices) + 1))
    asked = f"Please choose the correct answer to the question: {question}\n\n{marked}\n\nAnswer format: {names}"
    return {"instruction": asked, "input": "", "output": "", "answer": f"answer{answer}"}


@pytest.fixture
def ability_data(tmp_path: Path) -> Path:
    """A folder of the benchmarks' shapes: 3 ARC questions, 3 subjects of MMLU, 3 trivia, 2 long texts and a short."""
    for name in ("commonsense", "forgetting/mmlu/test", "instruct"):
        (tmp_path / name).mkdir(parents=True)
    records = [arc_record(*question) for question in QUESTIONS]
    (tmp_path / "commonsense" / "ARC-Challenge_test.json").write_text(json.dumps(records))
    for subject, count in {"law": 1, "logic": 4, "art": 4}.items():
        with (tmp_path / "forgetting" / "mmlu" / "test" / f"{subject}_test.csv").open("w", newline="") as file:
            rows = [
                [f"{subject} {number},\nwhich?", "one", "two", "three\u2028", "four", "C"] for number in range(count)
            ]
            csv.writer(file).writerows(rows)
    trivia = [
        {"id": "1", "question": "The capital of France is", "golden_answers": ["Rome", "paris"]},
        {"id": "2", "question": '"Who said ""hot is cold""?"', "golden_answers": ["nobody", ""]},
        {"id": "3", "question": "Where is it?", "golden_answers": ["here"]},
    ]
    lines = "".join(json.dumps(line) + "\n" for line in trivia)
    (tmp_path / "forgetting" / "triviaqa_1k.jsonl").write_text(lines)
    outputs = ["Snow is white and coal is black. " * 8, "short", "The opposite of hot is cold. " * 8]
    texts = json.dumps([{"output": output} for output in outputs])
    (tmp_path / "instruct" / "alpaca_eval_text_davinci_003.json").write_text(texts)
    return tmp_path


@pytest.fixture
def wanted(data: Path, tiny_model_folder: Path, tmp_path: Path) -> "TuningRequest":
    """Two sets of the commonsense benchmark, one method, two seeds."""
    from tests.bench.tuning import commonsense_request

    return commonsense_request(data, tiny_model_folder, tmp_path / "out")


@pytest.fixture(scope="session")
def _finished_once(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from roselora.bench.running.tuning_plan import make_plan
    from roselora.bench.running.tuning_run import run
    from tests.bench.tuning import commonsense_request, nothing

    folder = tmp_path_factory.mktemp("finished")
    write_data(folder)
    run(make_plan(commonsense_request(folder, tiny_model_folder, folder / "out")), nothing)
    return folder / "out"


@pytest.fixture
def finished(_finished_once: Path, wanted: "TuningRequest") -> "TuningRequest":
    """`wanted`, whose folder holds the whole run already."""
    shutil.copytree(_finished_once, wanted.folder)
    return wanted
