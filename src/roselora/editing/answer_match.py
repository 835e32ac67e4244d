"""Comparing answers with targets, ignoring case, outer punctuation and a leading article."""

import unicodedata
from collections.abc import Iterable

ARTICLES = ("a", "an", "the")


def normalize(answer: str) -> str:
    """An answer in lower case, without outer punctuation, outer space and a leading article.

    Punctuation is what Unicode classifies as such, with the quotes of all languages, and the backtick. Symbols, such as
    the pluses of "C++", are none. Inside the answer punctuation stays, but curly apostrophes become straight ones. Wide
    letters and separate accents are first brought to one form (NFKC). An answer of punctuation alone keeps it,
    because it may be the symbol that was asked for.

    >>> normalize("The Netherlands!")
    'netherlands'
    """
    text = " ".join(unicodedata.normalize("NFKC", answer).casefold().split()).replace("\u2019", "'")
    words = _strip_marks(text).split()
    if len(words) > 1 and words[0] in ARTICLES:
        words = _strip_marks(" ".join(words[1:])).split()
    return " ".join(words) or text


def matches(answer: str, targets: Iterable[str]) -> bool:
    """Whether the answer equals one of the targets after :func:`normalize`; a blank answer equals none.

    >>> matches("paris.", ["Paris", "City of Light"])
    True
    """
    normalized = normalize(answer)
    return bool(normalized) and normalized in {normalize(target) for target in targets}


def _strip_marks(text: str) -> str:
    """The text without punctuation, spaces and invisible characters at its ends."""
    outer = [character == "`" or unicodedata.category(character)[0] in "PZC" for character in text]
    inner = [index for index, mark in enumerate(outer) if not mark]
    return text[inner[0] : inner[-1] + 1] if inner else ""
