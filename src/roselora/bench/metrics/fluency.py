"""Fluency: the entropy of the n-grams of what a model says at length; a model that repeats itself has little.

As in ROME (Meng et al., NeurIPS 2022, arXiv 2202.05262, generation entropy) and EasyEdit, which
take (2/3 H2 + 4/3 H3) / 2, in bits, over the text's bigram and trigram frequencies; published tables print it times
100, and so does this module. Two things differ from theirs, so that compare methods by it, not papers: they draw
among the five likeliest tokens and score the prompt along with what follows, where we score 100 greedy tokens after
the prompt; and they split words with nltk, where we need no download. As with theirs, EOS does not end the text: an
edited model that gives a short answer and stops is not less fluent for it.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.models.generation import BATCH_SIZE, greedy_tokens

FLUENCY_TOKENS = 100
WEIGHTS = {2: 2 / 3, 3: 4 / 3}
"""The weight of each length of n-gram."""

_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, and every other printed character by itself; case stays."""
    return _WORD.findall(text)


def ngram_entropy(text: str) -> float:
    """The weighted mean entropy of a text's bigrams and trigrams, in hundredths of a bit; 0 where there are none."""
    said = words(text)
    return 100 * sum(weight * _entropy(said, n) for n, weight in WEIGHTS.items()) / len(WEIGHTS)


def fluency(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    batch_size: int = BATCH_SIZE,
) -> list[float]:
    """:func:`ngram_entropy` of 100 greedy tokens after each prompt; from the first NaN on, a broken model says nothing.

    Raises:
        ConfigError: a prompt has no tokens, or ``batch_size`` is below 1.
    """
    rows = greedy_tokens(
        model, tokenizer, prompts, max_new_tokens=FLUENCY_TOKENS, batch_size=batch_size, stop_at_eos=False
    )
    return [ngram_entropy(str(tokenizer.decode(row, skip_special_tokens=True))) for row in rows]


def _entropy(said: Sequence[str], n: int) -> float:
    """In bits."""
    counts = Counter(zip(*(said[start:] for start in range(n)), strict=False))
    total = counts.total()
    return sum(-count / total * math.log2(count / total) for count in counts.values())
