"""The metrics of knowledge editing, on answers, tokens and distributions that a model has produced."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

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


def unmoved(base: Sequence[Sequence[int]], edited: Sequence[Sequence[int]]) -> list[bool]:
    """Locality: for each prompt, whether the edited model's greedy tokens are the base model's, one for one."""
    return [list(before) == list(after) for before, after in zip(base, edited, strict=True)]


def kl_divergence(base: "Tensor", edited: "Tensor") -> "Tensor":
    """KL(base || edited) in nats, row by row.

    Args:
        base: (n, vocabulary) log-probabilities of the base model.
        edited: (n, vocabulary) log-probabilities of the edited model.

    Returns:
        (n,) fp64, at least 0; infinite where the edited model gives NaN, which is no distribution at all.
    """
    from roselora.core.precision import double  # which brings torch, and the command line shows answers without it

    p, q = double(base), double(edited)
    # Where the base gives no probability there is nothing to lose, though 0 * inf would be NaN.
    terms = (p.exp() * (p - q)).masked_fill(p.isneginf() & ~q.isnan(), 0.0)
    return terms.sum(-1).clamp(min=0.0).masked_fill(q.isnan().any(-1), float("inf"))
