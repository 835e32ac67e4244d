"""Shorter forms of a name that say the same."""

import re
from collections.abc import Iterator

_OF_PEOPLE = frozenset(
    """
    born died birth death spouse husband wife married father mother child children son daughter brother sister sibling
    siblings occupation profession job gender sex citizenship nationality religion employer educated studied position
    party native
    """.split()  # noqa: SIM905  # a list of quoted words would be three times as long
)
"""Words of English prompts that are asked of people."""


def shorter_names(subject: str, prompt: str) -> Iterator[str]:
    """A name without what stands in brackets behind it, and a person's without the middle names.

    >>> list(shorter_names("Alien (film)", "Who directed Alien (film)?"))
    ['Alien']
    >>> list(shorter_names("Joan Ruth Bader", "Where was Joan Ruth Bader born?"))
    ['Joan Bader']
    >>> list(shorter_names("New York City", "Who is the mayor of New York City?"))
    []
    """
    plain = re.sub(r"\s*[([].*?[)\]]\s*$", "", subject)
    if plain not in (subject, ""):
        yield plain
    first, *middle, last = plain.split() if len(plain.split()) > 2 else ("", "")
    is_person = not _OF_PEOPLE.isdisjoint(re.findall(r"\w+", prompt.replace(subject, "").lower()))
    if middle and (is_person or all(len(name.rstrip(".")) == 1 for name in middle)):
        yield f"{first} {last}"
