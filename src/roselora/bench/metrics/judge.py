"""A judge that compares each answer with the reference: any endpoint that speaks OpenAI's chat protocol.

The prompt is ours, so its win rates do not stand beside AlpacaEval's.
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
from roselora.errors import ConfigError

TRIES, PAUSE = 3, 2.0
"""How often a question is put before the judge counts as gone, and the seconds before the second try, which double."""

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
"""Puts a prompt to the judge and gives its reply."""


@dataclass(frozen=True)
class Judge:
    """Who judges.

    Attributes:
        name: the model's, as the endpoint knows it.
        ask: how it is asked.
    """

    name: str
    ask: Ask


def endpoint(url: str, model: str, api_key: str | None) -> Judge:
    """The judge behind an OpenAI-compatible endpoint, such as http://localhost:8000/v1.

    It is asked without sampling; the key is sent and never written anywhere.
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
    """Let the judge compare every answer that it has not compared yet; each verdict is kept at once.

    Which of the two stands first is drawn by the question's key, so that it is the same for every method.

    Raises:
        ConfigError: the judge does not answer; what it has said is kept.
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
    reply = _patiently(judge, PROMPT.format(instruction=reference.instruction, a=a, b=b))
    return Judgement(answer.method, answer.seed, key, judge.name, reply, verdict(reply, first))


def verdict(reply: str, ours_first: bool) -> float | None:
    """1 if the reply names our answer, 0 the reference, 0.5 neither; None if it names nothing."""
    found = re.fullmatch(r"\W*(?:answer\s+)?([ABT])\b\W*", reply.strip(), re.IGNORECASE)
    if found is None:
        return None
    letter = found[1].upper()
    return 0.5 if letter == "T" else float((letter == "A") == ours_first)


def _patiently(judge: Judge, prompt: str) -> str:
    for attempt in range(TRIES):
        try:
            return judge.ask(prompt)
        except Exception as error:  # the client lets the network's errors through, and those have no common type
            if attempt == TRIES - 1:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
                raise ConfigError(
                    f"The judge {judge.name} does not answer ({reason}): see to --judge-url and --judge-model; what it "
                    "has said is kept, and the same command goes on."
                ) from None
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError("TRIES is not 0")
