"""Prompts near an edit's own at which it must stay silent: its subject asked something else, others asked the same."""

import re
from dataclasses import dataclass

from roselora.editing.relations import NAMES, RELATIONS
from roselora.editing.request import EditRequest

FEW = 4
"""Of the relations' other form, questions where the prompt is a statement and the reverse, every so many are taken."""

_EMPTY_WORDS = frozenset(
    """
    the of a an is are was were in on at to what which who whom whose where when how did do does for by from with name
    names that it its s and be been has have had answer question
    """.split()  # noqa: SIM905  # a list of quoted words would be three times as long
)
_JOINING_WORDS = r"(?:of|the|de|la|van|von|der|and|for)"
_NAME = re.compile(rf"[A-Z0-9][\w'.-]*(?: (?:{_JOINING_WORDS} )*[A-Z0-9][\w'.-]*)*")
_AFTER_PREPOSITION = re.compile(r"\b(?:of|for|in|by|from) (?:the )?([\w' -]+?)(?= (?:is|are|was|were|in|on)\b|\?|$)")


@dataclass(frozen=True)
class Contrasts:
    """Prompts that are close to an edit's own and are not its own.

    Attributes:
        related: the same subject, asked something else.
        renamed: another subject, asked the same.
    """

    related: tuple[str, ...]
    renamed: tuple[str, ...]


def contrasts(request: EditRequest) -> Contrasts:
    """The contrasts of a request.

    A relation of which either form shares a word that means something with one of the request's prompts is left out,
    for it may be the edit's own. Where the request names no subject, it is guessed; where none can be guessed,
    there are no contrasts.
    """
    subject = request.subject or guess_subject(request.prompt)
    if subject is None:
        return Contrasts((), ())
    asked = set().union(*(_words(prompt.replace(subject, " ")) for prompt in request.prompts))
    others = [pair for pair in RELATIONS if not asked & (_words(pair[0]) | _words(pair[1]))]
    form = 1 if request.prompt.rstrip().endswith("?") else 0
    templates = [pair[form] for pair in others] + [pair[1 - form] for pair in others[::FEW]]
    names = [name for name in NAMES if not _words(name) & _words(subject)]
    return Contrasts(
        tuple(template.format(subject) for template in templates),
        tuple(request.prompt.replace(subject, name) for name in names if subject in request.prompt),
    )


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
    if match.start() == 0 and words[0].lower() in _EMPTY_WORDS:
        words = words[1:]
    elif match.start() == 0 and len(words) == 1:
        words = []
    return " ".join(words)


def _words(text: str) -> set[str]:
    """The words that mean something, without a plural's s."""
    return {word.rstrip("s") for word in set(re.findall(r"\w+", text.lower())) - _EMPTY_WORDS}
