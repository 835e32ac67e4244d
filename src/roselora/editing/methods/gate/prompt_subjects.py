"""What a prompt is about, and which of its words mean something."""

import re

from roselora.editing.request import EditRequest

EMPTY_WORDS = frozenset(
    """
    the of a an is are was were in on at to what which who whom whose where when how did do does for by from with name
    names that it its s and be been has have had answer question
    """.split()  # noqa: SIM905  # a list of quoted words would be three times as long
)
"""Words that say little by themselves, of prompts in English."""

_JOINING_WORDS = r"(?:of|the|de|la|van|von|der|and|for)"
_NAME = re.compile(rf"[A-Z0-9][\w'.-]*(?: (?:{_JOINING_WORDS} )*[A-Z0-9][\w'.-]*)*")
_AFTER_PREPOSITION = re.compile(r"\b(?:of|for|in|by|from) (?:the )?([\w' -]+?)(?= (?:is|are|was|were|in|on)\b|\?|$)")


def subject_of(request: EditRequest) -> str | None:
    """What a request is about: what it names, else what can be guessed from its prompt."""
    return request.subject or guess_subject(request.prompt)


def guess_subject(prompt: str) -> str | None:
    """What a prompt seems to be about: its longest name in capitals, else what follows its last preposition."""
    names = [_without_opening(match) for match in _NAME.finditer(prompt)]
    if any(names):
        return max(names, key=len)
    phrases = _AFTER_PREPOSITION.findall(prompt)
    return phrases[-1].strip() if phrases else None


def _without_opening(match: "re.Match[str]") -> str:
    """A name without the word that has its capital from standing first."""
    words = match[0].split()
    if match.start() == 0 and words[0].lower() in EMPTY_WORDS:
        words = words[1:]
    elif match.start() == 0 and len(words) == 1:
        words = []
    return " ".join(words)


def telling_words(text: str) -> set[str]:
    """The words that mean something, without a plural's s."""
    return {word.rstrip("s") for word in set(re.findall(r"\w+", text.lower())) - EMPTY_WORDS}
