"""Questions that every case is asked beside its record's own: the nearest one, the subject's, and behind small talk.

No method trains on any of them: `tests/bench/tasks/test_overlap.py` counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from roselora.bench.tasks.edit_case import NEAREST, RELATION_SPECIFICITY, SAME_SUBJECT, EditCase, Probe

SMALL_TALK = (
    "It has rained here since this morning.",
    "My neighbour's dog kept me awake last night.",
    "I am writing this from the train.",
    "We had soup for lunch today.",
    "My sister has just moved to another flat.",
    "I forgot my umbrella at home again.",
    "Our cat likes to sleep on the keyboard.",
    "There is a new baker at the corner of my street.",
)
"""What may stand before a prompt without changing what it asks. A case always gets the same one."""

ABOUT = (
    "Where can I read more about {}?",
    "Who has written a book about {}?",
    "When was {} last in the news?",
    "What do people like about {}?",
)
"""Questions about a subject that no benchmark edits, one for each question word that benchmarks' prompts begin with."""

FUNCTION_WORDS = frozenset(
    """
    a an and are as at be been by can could did do does for from had has have he her his how in into is it its of on or
    s she that the their them they this to was were what when where which who whom whose why will with would
    """.split()  # noqa: SIM905 - a list of a hundred quoted words cannot be read
)
"""English words that say nothing about what a question is about."""


@dataclass(frozen=True)
class _Asked:
    """A record's prompt and subject in lower case, with a space around each word, and the prompt's content words.

    Without a subject, ``subject`` is the space that every text contains.
    """

    prompt: str
    subject: str
    content: frozenset[str]

    @classmethod
    def by(cls, case: EditCase) -> "_Asked":
        prompt, subject = (
            " ".join(["", *re.findall(r"\w+", text), ""]).casefold() for text in (case.prompt, case.subject or "")
        )
        return cls(prompt, subject, frozenset(prompt.split()) - FUNCTION_WORDS)

    def is_of_another_subject(self, other: "_Asked") -> bool:
        """Whether neither prompt contains the other's subject."""
        return self.subject not in other.prompt and other.subject not in self.prompt


def with_added_questions(cases: Sequence[EditCase], pool: Sequence[EditCase]) -> tuple[EditCase, ...]:
    """The cases with a nearest question, questions about the subject, and the prompt behind a sentence.

    The nearest question is the prompt in the pool that shares most content words with the case's and asks of another
    subject; the first of several. There is none if the case names no subject, or if no prompt shares a word.

    >>> pool = [EditCase(f"made/{n}", f"Where was {name} born?", "x", name) for n, name in enumerate(["Ada", "Bo"])]
    >>> with_added_questions(pool[:1], pool)[0].locality[NEAREST]
    (Probe(prompt='Where was Bo born?', answers=()),)

    Args:
        pool: records of the same set, in the file's order.
    """
    others = [(each.prompt, _Asked.by(each)) for each in pool]
    return tuple(_asking_more(case, others) for case in cases)


def _asking_more(case: EditCase, others: Sequence[tuple[str, _Asked]]) -> EditCase:
    locality = dict(case.locality)
    if case.subject is not None and RELATION_SPECIFICITY not in locality:
        locality[SAME_SUBJECT] = tuple(Probe(question.format(case.subject), ()) for question in ABOUT)
    own = _Asked.by(case)
    shared = [
        (len(own.content & asked.content), prompt) for prompt, asked in others if own.is_of_another_subject(asked)
    ]
    most, nearest = max(shared, key=lambda pair: pair[0], default=(0, ""))
    if most:
        locality[NEAREST] = (Probe(nearest, ()),)
    sentence = SMALL_TALK[crc32(case.key.encode()) % len(SMALL_TALK)]
    return replace(case, locality=locality, behind_sentence=f"{sentence} {case.prompt}")
