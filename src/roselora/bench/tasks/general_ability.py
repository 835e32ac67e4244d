"""Questions of general ability from a data folder: ARC-Challenge, MMLU and TriviaQA, as texts that end in "Answer:".

The texts have the structure of lm-eval's standard tasks (question, choices, answer); they are zero-shot, without a
header that names the subject.
"""

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roselora.bench.tasks.data_files import read_data_file
from roselora.errors import ConfigError
from roselora.user_files import csv_rows, json_list, json_records, read_text

Document = Mapping[str, Any]
"""One question: its ``text``, and either ``choices`` with the index ``answer``, or ``answers`` of which any counts."""

LETTERS = ("A", "B", "C", "D")

INSTRUCTION = re.compile(
    r"Please choose the correct answer to the question: (?P<question>.*)\n\n"
    r"(?P<choices>Answer1: .*)\n\nAnswer format: .*",
    re.DOTALL,
)
CHOICE_MARK = re.compile(r"(?:^|\s)Answer(\d): ")


def arc_challenge(data_dir: Path, n: int | None, seed: int) -> list[Document]:
    """ARC-Challenge's test questions, parsed back from LLM-Adapters' instructions.

    A record's instruction reads "Please choose the correct answer to the question: ...", a blank line, "Answer1: ...
    Answer2: ...", a blank line, and the answer's format; its answer reads "answer3". What is asked here is the bare
    question, and every choice in its own words is scored.

    Raises:
        ConfigError: the file is not there, or a record is not of that form.
    """
    path = data_dir / "commonsense" / "ARC-Challenge_test.json"
    return _drawn(read_data_file(path, json_list, _arc), n, seed)


def mmlu(data_dir: Path, n: int | None, seed: int) -> list[Document]:
    """MMLU's test questions, drawn evenly over its subjects, whose letters are scored.

    Raises:
        ConfigError: there are no files, or a row is not a question, four choices and a letter.
    """
    folder = data_dir / "forgetting" / "mmlu" / "test"
    subjects = [read_data_file(path, csv_rows, _mmlu) for path in sorted(folder.glob("*.csv"))]
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
        ConfigError: the file is not there, or a line is not a question with answers.
    """
    path = data_dir / "forgetting" / "triviaqa_1k.jsonl"
    return _drawn(read_data_file(path, json_records, _triviaqa), n, seed)


def held_out_texts(data_dir: Path, n: int | None) -> list[str]:
    """Texts for perplexity: AlpacaEval's reference answers of more than 200 characters, from the first on.

    Raises:
        ConfigError: the file is not there or of another format.
    """
    path = data_dir / "instruct" / "alpaca_eval_text_davinci_003.json"
    texts: list[str] = read_data_file(path, json_list, lambda record: str(record["output"]))
    return [text for text in texts if len(text) > 200][:n]


def read_texts(path: Path) -> list[str]:
    """A user's own held-out texts: a plain text file, in which blank lines part the texts.

    Raises:
        ConfigError: the file cannot be read, or holds no text.
    """
    texts = [part.strip() for part in re.split(r"\n\s*\n", read_text(path)) if part.strip()]
    if not texts:
        raise ConfigError(f"{path} holds no text: put held-out texts there, parted by blank lines.")
    return texts


def _arc(record: Any) -> Document:
    parts = INSTRUCTION.fullmatch(record["instruction"])
    if parts is None:
        raise ValueError("its instruction is not LLM-Adapters'")
    _, *marked = CHOICE_MARK.split(parts["choices"])
    numbers, choices = marked[::2], [choice.strip() for choice in marked[1::2]]
    answer = [f"answer{number}" for number in numbers].index(record["answer"])
    return {"text": f"Question: {parts['question'].strip()}\nAnswer:", "choices": choices, "answer": answer}


def _mmlu(row: Any) -> Document:
    question, *choices, answer = row
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
    text = "\n".join([question.strip(), *lines, "Answer:"])
    return {"text": text, "choices": list(LETTERS), "answer": LETTERS.index(answer)}


def _triviaqa(record: Any) -> Document:
    question = record["question"]
    if question.startswith('"') and question.endswith('"') and '""' in question:
        question = question[1:-1].replace('""', '"')  # the file carries a CSV's quoting over into JSON
    answers = [answer for answer in record["golden_answers"] if answer.strip()]
    if not answers:
        raise ValueError("it has no answer")
    return {"text": f"Question: {question.strip()}\nAnswer:", "answers": answers}


def _drawn(documents: list[Document], n: int | None, seed: int) -> list[Document]:
    """``n`` of them, drawn by the seed, in the file's order; all if there are no more."""
    if n is None or n >= len(documents):
        return documents
    return [documents[index] for index in sorted(random.Random(seed).sample(range(len(documents)), n))]
