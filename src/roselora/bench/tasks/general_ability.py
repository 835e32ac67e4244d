"""Questions of general ability from a data folder: ARC-Challenge, MMLU and TriviaQA, as texts that end in "Answer:".

The texts have the structure of lm-eval's standard tasks (question, choices, answer); they are zero-shot, without a
header that names the subject.
"""

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roselora.bench.tasks.data_files import Record, read_records
from roselora.errors import ConfigError
from roselora.user_files import csv_rows, shown

Document = Mapping[str, Any]
"""One question: its ``text``, and either ``choices`` with the index ``answer``, or ``answers`` of which any counts."""

LETTERS = ("A", "B", "C", "D")

INSTRUCTION = re.compile(
    r"Please choose the correct answer to the question: (?P<question>.*)\n\n"
    r"(?P<choices>Answer1: .*)\n\nAnswer format: .*",
    re.DOTALL,
)
CHOICE_MARK = re.compile(r"(?:^|\s)Answer(\d): ")

LEAST_CHARACTERS = 200
"""A text for perplexity is longer than this."""


class _ArcRecord(Record):
    instruction: str
    answer: str


class _TriviaRecord(Record):
    question: str
    golden_answers: list[str]


class _ReferenceOutput(Record):
    output: str


def arc_challenge(data_dir: Path, n: int | None, seed: int) -> list[Document]:
    """ARC-Challenge's test questions, parsed back from LLM-Adapters' instructions.

    A record's instruction reads "Please choose the correct answer to the question: ...", a blank line, "Answer1: ...
    Answer2: ...", a blank line, and the answer's format; its answer reads "answer3". The document asks the bare
    question, and its choices are the answers in their own words.

    Raises:
        ConfigError: the file is missing, or a record is not of that form.
    """
    return _sampled(read_records(data_dir / "commonsense" / "ARC-Challenge_test.json", _arc), n, seed)


def mmlu(data_dir: Path, n: int | None, seed: int) -> list[Document]:
    """MMLU's test questions, drawn evenly from its subjects; their choices are letters.

    Raises:
        ConfigError: there are no files, or a row is not a question, four choices and a letter.
    """
    folder = data_dir / "forgetting" / "mmlu" / "test"
    subjects = [read_records(path, _mmlu, csv_rows) for path in sorted(folder.glob("*.csv"))]
    if not subjects:
        raise ConfigError(f"There is no CSV file in {folder}; point --data-dir at the folder with the benchmark data.")
    generator = random.Random(seed)
    for subject in subjects:
        generator.shuffle(subject)
    generator.shuffle(subjects)
    # One question of each subject, then a second of each, and so on.
    rounds = [subject[turn] for turn in range(max(map(len, subjects))) for subject in subjects if turn < len(subject)]
    return rounds[:n]


def triviaqa(data_dir: Path, n: int | None, seed: int) -> list[Document]:
    """TriviaQA's questions without context; any alias of the answer counts.

    Raises:
        ConfigError: the file is missing, or a line is not a question with answers.
    """
    return _sampled(read_records(data_dir / "forgetting" / "triviaqa_1k.jsonl", _trivia), n, seed)


def perplexity_texts(data_dir: Path, n: int | None) -> list[str]:
    """The first ``n`` texts for perplexity: AlpacaEval's reference answers of more than 200 characters.

    Raises:
        ConfigError: the file is missing or of another format, or has no such text.
    """
    path = data_dir / "instruct" / "alpaca_eval_text_davinci_003.json"
    outputs = [record.output for record in read_records(path, _ReferenceOutput.model_validate)]
    texts = [output for output in outputs if len(output) > LEAST_CHARACTERS][:n]
    if not texts:
        raise ConfigError(f"{path} holds no text of more than {LEAST_CHARACTERS} characters to measure perplexity on.")
    return texts


def _arc(record: Any) -> Document:
    read = _ArcRecord.model_validate(record)
    parts = INSTRUCTION.fullmatch(read.instruction)
    if parts is None:
        raise ValueError("its instruction is not LLM-Adapters'")
    _, *marked = CHOICE_MARK.split(parts["choices"])
    numbers, choices = marked[::2], [choice.strip() for choice in marked[1::2]]
    names = [f"answer{number}" for number in numbers]
    if read.answer not in names:
        raise ValueError(f"its answer is {shown(read.answer)}, none of {', '.join(names)}")
    text = f"Question: {parts['question'].strip()}\nAnswer:"
    return {"text": text, "choices": choices, "answer": names.index(read.answer)}


def _mmlu(row: Any) -> Document:
    if len(row) != 2 + len(LETTERS) or row[-1] not in LETTERS:
        raise ValueError("it is not a question, four choices and the right one's letter")
    question, *choices, answer = row
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
    text = "\n".join([question.strip(), *lines, "Answer:"])
    return {"text": text, "choices": list(LETTERS), "answer": LETTERS.index(answer)}


def _trivia(record: Any) -> Document:
    read = _TriviaRecord.model_validate(record)
    question = read.question
    if question.startswith('"') and question.endswith('"') and '""' in question:
        question = question[1:-1].replace('""', '"')  # the file carries a CSV's quoting over into JSON
    answers = [answer for answer in read.golden_answers if answer.strip()]
    if not answers:
        raise ValueError("it has no answer")
    return {"text": f"Question: {question.strip()}\nAnswer:", "answers": answers}


def _sampled(documents: list[Document], n: int | None, seed: int) -> list[Document]:
    """``n`` documents drawn by the seed, in the file's order; all if there are no more."""
    if n is None or n >= len(documents):
        return documents
    return [documents[index] for index in sorted(random.Random(seed).sample(range(len(documents)), n))]
