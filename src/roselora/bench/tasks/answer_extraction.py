"""How an answer is taken from a generated text: the published rules of LLM-Adapters and LoReFT.

The rules are kept as published, with their faults, so that figures are comparable with published ones; each docstring
says what its rule gets wrong. "" stands for no answer, which is right for no question.
"""

import re
from collections.abc import Callable, Sequence

from roselora.bench.tasks.prompt_templates import RESPONSE, TRIGGER

TOLERANCE = 0.001
"""How far a number may be from the right one."""

_NUMBER = re.compile(r"-?\d+\.?\d*")
_MARKED_LETTER = re.compile(r"(?:\(|\b(?i:answer(?: is)?|option|choice):? *\(?)([A-E])\b|\b([A-E])\)|^\W*([A-E])\W*$")


def of_response(extract: Callable[[str], str], generated: str) -> str:
    """LLM-Adapters' first step: drop everything from a ``### Response:`` on that the model itself generated.

    Their code splits prompt and answer at that mark and takes the second part, so a repeated mark ends the answer.
    """
    return extract(generated.partition(RESPONSE)[0])


def first_choice(choices: Sequence[str], generated: str) -> str:
    """LLM-Adapters' commonsense rule: the first occurrence of any choice, in lower case.

    >>> first_choice(("true", "false"), "That is untrue.")
    'true'

    Also "answer10" gives answer1, "not option1 but option2" option1, and "Answer1" nothing.
    """
    found = re.search("|".join(map(re.escape, choices)), generated)
    return found[0] if found else ""


def after_trigger(generated: str) -> str:
    """LoReFT's commonsense rule: everything after the first "the correct answer is ", stripped.

    >>> after_trigger("the correct answer is option2.")
    'option2.'

    A full stop after the answer, or an answer without these words before it, makes it wrong.
    """
    return generated.partition(TRIGGER)[2].strip()


def last_number(generated: str) -> str:
    """The arithmetic rule of both: the last number, after commas are dropped.

    >>> last_number("1,234 apples cost $5.")
    '5.'

    "3,4" gives 34, "7-2" -2, "1/2" 2, ".5" 5, "1e3" 3, and "12, as asked in part 2" 2.
    """
    numbers = _NUMBER.findall(generated.replace(",", ""))
    return numbers[-1] if numbers else ""


def first_letter(generated: str) -> str:
    """The AQuA rule of both: the first capital A to E.

    >>> first_letter("A man runs 5 miles: (C)")
    'A'

    Also "Because ..." gives B and "Each ..." E. :func:`strict_letter` does better, but its figures are not comparable
    with published ones.
    """
    found = re.search("[A-E]", generated)
    return found[0] if found else ""


def strict_letter(generated: str) -> str:
    """The last capital A to E that is marked as a choice: by a bracket, or by "answer is", "option" and the like.

    >>> strict_letter("A man runs 5 miles: (C)")
    'C'

    A text that is nothing but the letter counts too.
    """
    marked = ["".join(groups) for groups in _MARKED_LETTER.findall(generated)]
    return marked[-1] if marked else ""


def same(answer: str, gold: str) -> bool:
    """Whether an answer is exactly the right one, apart from leading and trailing whitespace."""
    return answer.strip() == gold.strip()


def close(answer: str, gold: str) -> bool:
    """Whether an answer is a number within :data:`TOLERANCE` of the right one."""
    return answer != "" and abs(float(answer) - float(gold)) <= TOLERANCE
