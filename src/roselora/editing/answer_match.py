"""Whether an answer is the target: compared without case, outer punctuation and a leading article."""

import unicodedata
from collections.abc import Iterable

ARTICLES = ("a", "an", "the")


def normalize(answer: str) -> str:
    """An answer without case, outer punctuation, outer space and a leading article.

    Punctuation is what Unicode calls so, the quotes of all languages among it, and the backtick; symbols such as the
    pluses of "C++" are not. Inside the answer it stays, but curly apostrophes become straight ones. Wide letters and
    accents that stand apart are first brought to one form (NFKC). An answer of punctuation alone keeps it, for it
    can be the symbol that was asked for.
    """
    text = " ".join(unicodedata.normalize("NFKC", answer).casefold().split()).replace("\u2019", "'")
    words = _strip_marks(text).split()
    if len(words) > 1 and words[0] in ARTICLES:
        words = _strip_marks(" ".join(words[1:])).split()
    return " ".join(words) or text


def matches(answer: str, targets: Iterable[str]) -> bool:
    """Whether the answer equals one of the targets after :func:`normalize`; a blank one equals none."""
    said = normalize(answer)
    return bool(said) and said in {normalize(target) for target in targets}


def _strip_marks(text: str) -> str:
    """Text without the punctuation, spaces and invisible characters at its ends."""
    outer = [character == "`" or unicodedata.category(character)[0] in "PZC" for character in text]
    inner = [index for index, mark in enumerate(outer) if not mark]
    return text[inner[0] : inner[-1] + 1] if inner else ""
