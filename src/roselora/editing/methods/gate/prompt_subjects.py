"""What a prompt is about, and which of its words carry meaning."""

import re

from roselora.editing.request import EditRequest

STOP_WORDS = frozenset(
    """
    the of a an is are was were in on at to what which who whom whose where when how did do does for by from with name
    names that it its s and be been has have had answer question
    """.split()  # noqa: SIM905  # a list of quoted words would be three times as long
)
"""Words of English prompts that say little by themselves."""

_JOINING_WORDS = r"(?:of|the|de|la|van|von|der|and|for)"
_NAME = re.compile(rf"[A-Z0-9][\w'.-]*(?: (?:{_JOINING_WORDS} )*[A-Z0-9][\w'.-]*)*")
_AFTER_PREPOSITION = re.compile(r"\b(?:of|for|in|by|from) (?:the )?([\w' -]+?)(?= (?:is|are|was|were|in|on)\b|\?|$)")


def subject_of(request: EditRequest) -> str | None:
    """What a request is about: the subject that it names, else one guessed from its prompt."""
    return request.subject or guess_subject(request.prompt)


def guess_subject(prompt: str) -> str | None:
    """What a prompt seems to be about: its longest capitalized name, else what follows its last preposition.

    >>> guess_subject("Where was Marie Curie born?")
    'Marie Curie'
    """
    names = [_without_opening(match) for match in _NAME.finditer(prompt)]
    if any(names):
        return max(names, key=len)
    phrases = _AFTER_PREPOSITION.findall(prompt)
    return phrases[-1].strip() if phrases else None


def _without_opening(match: "re.Match[str]") -> str:
    """A name without a word that is capitalized only because it comes first in the prompt."""
    words = match[0].split()
    if match.start() == 0 and words[0].lower() in STOP_WORDS:
        words = words[1:]
    elif match.start() == 0 and len(words) == 1:
        words = []
    return " ".join(words)


def content_words(text: str) -> set[str]:
    """The words that carry meaning, in lower case and without a plural's s.

    >>> sorted(content_words("What are the names of the rivers?"))
    ['river']
    """
    return {word.rstrip("s") for word in set(re.findall(r"\w+", text.lower())) - STOP_WORDS}
