"""Our answer extraction against a second implementation of the published rules, on made and recorded answers.

    python benchmarks/extraction_agreement.py --output benchmarks/results/extraction_agreement.json
    python benchmarks/extraction_agreement.py --generate --data-dir DATA --minutes 15

Under both protocols and for each test set, every text goes through our rule and through the published one, and the
answers are scored against several right ones. The two agree on a text if they extract the same answer and count it
right for the same ones. The made texts are the right words and numbers among the faults that the rules are known for.
The recorded ones are the demo model's answers to questions drawn from each set (only the answers, in
``benchmarks/results/extraction_answers.jsonl``). ``--generate`` adds to that file, a batch of each set in turn, until
each set has ``--questions`` of them or the minutes are over; another run continues. Answers that repeat the question
are not kept, because its text belongs to others.

The second implementation follows commonsense_evaluate.py and evaluate.py (AGI-Edgerunners/LLM-Adapters, commit 8166572)
and compute_metrics.py (stanfordnlp/pyreft, commit dafd099).
"""

import argparse
import json
import math
import random
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from roselora.bench.tasks import arithmetic, commonsense
from roselora.bench.tasks.answer_extraction import first_letter, strict_letter
from roselora.bench.tasks.task import Task
from roselora.models.generation import greedy_tokens
from roselora.models.loading import load

ANSWERS = Path(__file__).parent / "results" / "extraction_answers.jsonl"
PROTOCOLS = ("llm-adapters", "loreft")
ASKED_BY = "loreft"
"""The protocol whose prompts the recorded answers follow: the shorter ones."""

BATCH = 8
SEED = 0
REPEATED = 30
"""An answer that has so many consecutive characters of the question repeats it."""

PATTERNS = {
    "boolq": r"true|false",
    "piqa": r"solution1|solution2",
    "social_i_qa": r"answer1|answer2|answer3|answer4|answer5",
    "arc_challenge": r"answer1|answer2|answer3|answer4|answer5",
    "arc_easy": r"answer1|answer2|answer3|answer4|answer5",
    "openbookqa": r"answer1|answer2|answer3|answer4|answer5",
    "hellaswag": r"ending1|ending2|ending3|ending4",
    "winogrande": r"option1|option2",
    "aqua": r"A|B|C|D|E",
}

FRAMES = (
    "the correct answer is {}",
    "the correct answer is {}.",
    "the correct answer is  {} ",
    "The correct answer is {}",
    "the correct answer is {}\n\n### Response:\nthe correct answer is {other}",
    "### Response: the correct answer is {}",
    "the correct answer is {} the correct answer is {other}",
    "not {other} but {}",
    "{}",
    " {}\n",
    "{}0",
    "un{}",
    "({}) or {other}?",
    "\nRationale: we divide.The answer is ({}).",
    "A man had {} of them. The answer is {}.",
    "Because of {}, the answer is {}.",
    "The answer is ${}.",
    "The answer is -{}",
    "{}-{other}",
    "{}/{other}",
    "{}, {other}",
    "It is {}% (see part 2)",
    "x = {}e3",
    "",
    "I do not know",
    "It is {} , I think: {}",
    "The answer is.",
)
NUMBERS = ("3", "-3.5", "1,234", "5.", ".5", "1,234,567.89", "0", "007", "12.3.4", "99999999999999999999", "٣")


def published(protocol: str, name: str, said: str) -> str | float:
    """The answer that the published code extracts."""
    if protocol == "llm-adapters":
        response = f"prompt ### Response:{said}".split("### Response:")[1].strip()
    elif name in commonsense.CHOICES:
        trigger = "the correct answer is "
        start = said.find(trigger)
        return said[start + len(trigger) :].strip() if start >= 0 else ""
    else:
        response = said
    if name in PATTERNS:
        matches = re.findall(PATTERNS[name], response)
        return matches[0] if matches else ""
    numbers = re.findall(r"-?\d+\.?\d*", response.replace(",", ""))
    return float(numbers[-1]) if numbers else math.inf


def published_right(answer: str | float, gold: str) -> bool:
    if isinstance(answer, float):
        return abs(float(gold) - answer) <= 0.001
    return answer == gold


def agree(task: Task, said: str, golds: Iterable[str]) -> bool:
    """Whether our rule and the published one extract the same answer, and score it the same."""
    ours, theirs = task.extract(said), published(task.protocol, task.name, said)
    as_theirs = (float(ours) if ours else math.inf) if isinstance(theirs, float) else ours
    return as_theirs == theirs and all(task.right(ours, gold) == published_right(theirs, gold) for gold in golds)


def golds_of(name: str, said: str) -> list[str]:
    """Right answers to score an answer against: every choice, or numbers equal and close to those of the text."""
    if name in commonsense.CHOICES:
        return list(commonsense.CHOICES[name])
    if name == "aqua":
        return list("ABCDE")
    stated = [float(number) for number in re.findall(r"-?\d+\.?\d*", said.replace(",", ""))] or [0.0]
    return [repr(number + offset) for number in stated for offset in (0, 0.0005, -0.0009, 0.0011, 1)]


def made_texts(name: str) -> list[str]:
    words = list(commonsense.CHOICES.get(name, "ABCDE" if name == "aqua" else NUMBERS))
    pairs = zip(words, words[1:] + words[:1], strict=True)
    return list(dict.fromkeys(frame.format(word, word, other=other) for word, other in pairs for frame in FRAMES))


def all_tasks(protocol: str) -> dict[str, Task]:
    return {**commonsense.BENCHMARK.tasks(protocol), **arithmetic.BENCHMARK.tasks(protocol)}


def recorded() -> dict[str, dict[str, str]]:
    """The demo model's answers by test set and question."""
    answers: dict[str, dict[str, str]] = {}
    if ANSWERS.exists():
        for line in ANSWERS.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            answers.setdefault(record["dataset"], {})[record["key"]] = record["said"]
    return answers


def generate(data_dir: Path, per_set: int, max_new_tokens: int, minutes: float) -> None:
    end = time.monotonic() + 60 * minutes
    loaded = load("demo")
    kept = {name: len(said) for name, said in recorded().items()}
    waiting = {}
    for name, task in all_tasks(ASKED_BY).items():
        read = task.read(data_dir).records
        drawn = random.Random(SEED).sample(read, len(read))
        done = recorded().get(name, {})
        past = max((number for number, question in enumerate(drawn, start=1) if question.key in done), default=0)
        waiting[name] = drawn[past:]
    with ANSWERS.open("a", encoding="utf-8") as file:
        while names := [name for name in waiting if kept.get(name, 0) < per_set and waiting[name]]:
            for name in names:
                if time.monotonic() > end:
                    return
                batch, waiting[name] = waiting[name][:BATCH], waiting[name][BATCH:]
                prompts = [question.prompt for question in batch]
                said = greedy_tokens(loaded.model, loaded.tokenizer, prompts, max_new_tokens=max_new_tokens)
                texts = [loaded.tokenizer.decode(ids, skip_special_tokens=True) for ids in said]
                own = [pair for pair in zip(batch, texts, strict=True) if not repeats(pair[1], pair[0].prompt)]
                for question, text in own[: per_set - kept.get(name, 0)]:
                    line = json.dumps({"dataset": name, "key": question.key, "said": text}, ensure_ascii=False)
                    file.write(line + "\n")
                    kept[name] = kept.get(name, 0) + 1
                file.flush()


def repeats(said: str, prompt: str) -> bool:
    return any(said[start : start + REPEATED] in prompt for start in range(len(said) - REPEATED + 1))


def compare() -> dict[str, Any]:
    """By protocol, test set and kind of text: how many of how many texts agree, and the texts that do not."""
    answers = {name: list(said.values()) for name, said in recorded().items()}
    figures: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        for name, task in all_tasks(protocol).items():
            for kind, texts in (("made", made_texts(name)), ("recorded", answers.get(name, []))):
                differ = [said for said in texts if not agree(task, said, golds_of(name, said))]
                figures.setdefault(protocol, {}).setdefault(name, {})[kind] = {
                    "n": len(texts),
                    "agree": len(texts) - len(differ),
                    "answered": sum(task.extract(said) != "" for said in texts),
                    "differ": differ,
                }
    letters = answers.get("aqua", [])
    strict = sum(strict_letter(said) == first_letter(said) for said in letters)
    return {"published": figures, "aqua_strict": {"n": len(letters), "agree": strict}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generate", action="store_true")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.generate:
        if options.data_dir is None:
            parser.error("--generate asks the questions of a --data-dir")
        generate(options.data_dir, options.questions, options.max_new_tokens, options.minutes)
        return
    result = compare()
    for protocol, sets in result["published"].items():
        for name, kinds in sets.items():
            told = "; ".join(f"{kind} {cell['agree']} of {cell['n']}" for kind, cell in kinds.items())
            print(f"{protocol:13} {name:14} {told}")
    print(f"strict letter as the first letter: {result['aqua_strict']['agree']} of {result['aqua_strict']['n']}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    cells = [cell for sets in result["published"].values() for kinds in sets.values() for cell in kinds.values()]
    if any(cell["differ"] for cell in cells):
        sys.exit("The rules do not agree on every text.")


if __name__ == "__main__":
    main()
