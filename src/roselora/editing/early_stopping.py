"""Stop generating an answer as soon as it can no longer become a right one."""

import unicodedata
from collections.abc import Iterable

from roselora.editing.answer_match import ARTICLES, normalize


class AnswerPrefixes:
    """The beginnings of every text that :func:`~roselora.editing.answer_match.matches` one of the targets.

    Only letters and digits are compared, without case and accents, because :func:`normalize` changes those of an answer
    only by dropping a leading article. So an answer that is ruled out here could not have matched, while one that is
    not ruled out may still be wrong.

    >>> prefixes = AnswerPrefixes(["St. Louis"])
    >>> prefixes.can_match("the st. Lou"), prefixes.can_match("St. Paul")
    (True, False)
    """

    def __init__(self, targets: Iterable[str]) -> None:
        letters = {_letters(normalize(target)) for target in targets}
        self._right = tuple(article + target for target in letters for article in ("", *ARTICLES))

    def can_match(self, generated: str) -> bool:
        """Whether some continuation of the text may match a target."""
        letters = _letters(generated)
        return any(right.startswith(letters) for right in self._right)


def _letters(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in decomposed if unicodedata.category(character)[0] in "LN")
