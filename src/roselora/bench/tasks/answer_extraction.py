"""What of a generated text is taken for the answer: the published rules of LLM-Adapters and LoReFT, quirks and all.

The rules are kept as they were published, so that figures can stand beside published ones; each function says what its
rule gets wrong. A text without an answer gives "", which is right for no question.
"""

import re
from collections.abc import Callable, Sequence

from roselora.bench.tasks.prompt_templates import RESPONSE, TRIGGER

LETTERS = ("A", "B", "C", "D", "E")
"""AQuA's choices."""

TOLERANCE = 0.001
"""How far a number may be from the right one."""

_NUMBER = re.compile(r"-?\d+\.?\d*")
_MARKED_LETTER = re.compile(r"(?:\(|\b(?i:answer(?: is)?|option|choice):? *\(?)([A-E])\b|\b([A-E])\)|^\W*([A-E])\W*$")


def of_response(extract: Callable[[str], str], said: str) -> str:
    """LLM-Adapters' first step: only the text before a ``### Response:`` that the model writes itself.

    It splits prompt and answer at that mark and takes the second part, so a repeated mark ends the answer.
    """
    return extract(said.partition(RESPONSE)[0])


def first_choice(choices: Sequence[str], said: str) -> str:
    """LLM-Adapters' commonsense rule: the choice that comes first anywhere in the text, in lower case.

    So "untrue" says true, "answer10" answer1, "not option1 but option2" option1, and "Answer1" nothing.
    """
    found = re.search("|".join(map(re.escape, choices)), said)
    return found[0] if found else ""


def after_trigger(said: str) -> str:
    """LoReFT's commonsense rule: all that follows the first "the correct answer is ", without outer blanks.

    So an answer with a full stop after it, or without the words before it, is wrong.
    """
    return said.partition(TRIGGER)[2].strip()


def last_number(said: str) -> str:
    """The arithmetic rule of both: commas dropped, the last run of digits, with a minus just before and a point in it.

    So "$5." says 5, "1,234" 1234 and "3,4" 34; "7-2" says -2, "1/2" 2, ".5" 5, "1e3" 3, and "12, as asked in part 2" 2.
    """
    numbers = _NUMBER.findall(said.replace(",", ""))
    return numbers[-1] if numbers else ""


def first_letter(said: str) -> str:
    """AQuA's rule of both: the first capital A to E anywhere.

    So "A man runs 5 miles: (C)" says A, "Because ..." B, and "Each ..." E. :func:`strict_letter` does better, but its
    figures do not stand beside published ones.
    """
    found = re.search("[A-E]", said)
    return found[0] if found else ""


def strict_letter(said: str) -> str:
    """The last capital A to E that is marked as a choice: by a bracket, or after "answer is", "option" and the like.

    A text that is nothing but the letter counts too.
    """
    marked = ["".join(groups) for groups in _MARKED_LETTER.findall(said)]
    return marked[-1] if marked else ""


def same(answer: str, gold: str) -> bool:
    """Whether an answer is the right one, letter for letter but for outer blanks."""
    return answer.strip() == gold.strip()


def close(answer: str, gold: str) -> bool:
    """Whether a number is the right one, within :data:`TOLERANCE`; no answer is not."""
    return answer != "" and abs(float(answer) - float(gold)) <= TOLERANCE
