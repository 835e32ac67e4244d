"""Whether an answer that is still being said can yet become one that counts."""

import unicodedata
from collections.abc import Iterable

from roselora.editing.answer_match import ARTICLES, normalize


class AnswerPrefixes:
    """The beginnings that every text must have which :func:`~roselora.bench.metrics.answer_match.matches` a target.

    Only letters and digits are looked at, without case, accents or articles, for :func:`normalize` never changes those
    of an answer but by dropping its leading article; so what is refused here could not have matched, and what is
    not refused may still fail.
    """

    def __init__(self, targets: Iterable[str]) -> None:
        wanted = {_letters(normalize(target)) for target in targets}
        self._whole = [article + letters for letters in wanted for article in ("", *ARTICLES)]

    def has(self, begun: str) -> bool:
        """Whether some continuation of the text may match."""
        letters = _letters(begun)
        return any(whole.startswith(letters) for whole in self._whole)


def _letters(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in decomposed if unicodedata.category(character)[0] in "LN")
