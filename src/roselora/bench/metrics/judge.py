"""A judge model that compares each answer with the reference: any endpoint with OpenAI's chat protocol.

The prompt is ours, so the win rates are not comparable with AlpacaEval's.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import InferenceClient

from roselora.bench.records.run_files import appending, read_records
from roselora.bench.records.tuning_bench_records import Answered, Judgement
from roselora.bench.tasks.instruct import Reference, reference_of
from roselora.errors import ConfigError, reason_of

TRIES, PAUSE = 3, 2.0
"""How often a question is asked before the run ends, and the seconds before the second try; they double each time."""

PROMPT = """You compare two answers to one instruction.

# Instruction
{instruction}

# Answer A
{a}

# Answer B
{b}

Which answer follows the instruction better: is it correct, does it help, is it clear? Length alone is no merit.
Reply with one letter and nothing else: A, B, or T if neither is better."""

Ask = Callable[[str], str]
"""Sends a prompt to the judge and returns its reply."""


@dataclass(frozen=True)
class Judge:
    """A judge model.

    Attributes:
        name: the model's name at the endpoint.
        ask: sends it a prompt.
    """

    name: str
    ask: Ask


def endpoint(url: str, model: str, api_key: str | None) -> Judge:
    """The judge at an OpenAI-compatible endpoint, such as http://localhost:8000/v1.

    It answers without sampling. The key is sent and never written anywhere.
    """
    client = InferenceClient(base_url=url, api_key=api_key or "none", timeout=120)

    def ask(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        reply = client.chat_completion(messages, model=model, max_tokens=8, temperature=0.0)
        return reply.choices[0].message.content or ""

    return Judge(model, ask)


def judge_answers(
    folder: Path,
    answers: Iterable[Answered],
    references: Sequence[Reference],
    judge: Judge,
    on_progress: Callable[[int, int], None],
) -> None:
    """Let the judge compare every answer that it has not compared yet, and append each verdict to the run's folder.

    The hash of the question's key decides which of the two comes first, so the order is the same for every method.

    Raises:
        ConfigError: the judge does not answer; the verdicts so far are kept.
    """
    done = {(one.method, one.seed, one.key) for one in read_records(folder, Judgement) if one.judge == judge.name}
    everything = list(answers)
    waiting = [a for a in everything if (a.method, a.seed, a.prediction.key) not in done]
    with appending(folder, Judgement) as append:
        for number, answer in enumerate(waiting, start=len(everything) - len(waiting)):
            on_progress(number, len(everything))
            append(_judged(answer, reference_of(answer.prediction.key, references), judge))
    on_progress(len(everything), len(everything))


def _judged(answer: Answered, reference: Reference, judge: Judge) -> Judgement:
    key, own = answer.prediction.key, answer.prediction.answer
    first = hashlib.sha256(key.encode()).digest()[0] % 2 == 0
    a, b = (own, reference.output) if first else (reference.output, own)
    reply = _ask_patiently(judge, PROMPT.format(instruction=reference.instruction, a=a, b=b))
    return Judgement(answer.method, answer.seed, key, judge.name, reply, verdict(reply, first))


def verdict(reply: str, ours_first: bool) -> float | None:
    """1 if the reply names our answer, 0 if the reference, 0.5 if neither is better; None if it is none of A, B and T.

    >>> verdict("B.", ours_first=True), verdict("T", ours_first=True), verdict("Both are good", ours_first=True)
    (0.0, 0.5, None)
    """
    found = re.fullmatch(r"\W*(?:answer\s+)?([ABT])\b\W*", reply.strip(), re.IGNORECASE)
    if found is None:
        return None
    letter = found[1].upper()
    return 0.5 if letter == "T" else float((letter == "A") == ours_first)


def _ask_patiently(judge: Judge, prompt: str) -> str:
    for attempt in range(TRIES):
        try:
            return judge.ask(prompt)
        except Exception as error:  # the client lets the network's errors through, and those have no common type
            if attempt == TRIES - 1:
                raise ConfigError(
                    f"The judge {judge.name} does not answer ({reason_of(error)}): check --judge-url and "
                    "--judge-model. Its verdicts so far are kept, and the same command continues."
                ) from None
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError("TRIES is not 0")
