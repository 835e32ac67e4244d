"""Fluency: the entropy of the n-grams of a long generated text; a model that repeats itself has little.

The definition is that of ROME (Meng et al., NeurIPS 2022, arXiv 2202.05262, generation entropy) and EasyEdit: (2/3 H2 +
4/3 H3) / 2, in bits, over the frequencies of the text's bigrams and trigrams. Published tables print it times 100, and
so does this module. Two things differ, so compare methods by it, not papers: they sample from the five likeliest tokens
and score the prompt too, while we score 100 greedy tokens after the prompt; and they split words with nltk, which needs
a download. As in theirs, EOS does not end the text: a model that answers briefly and stops is not less fluent.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.models.generation import BATCH_SIZE, greedy_tokens

FLUENCY_TOKENS = 100
WEIGHTS = {2: 2 / 3, 3: 4 / 3}
"""The weight of each n."""

_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, and every other printed character by itself; case is kept.

    >>> words("it's 3%")
    ['it', "'", 's', '3', '%']
    """
    return _WORD.findall(text)


def ngram_entropy(text: str) -> float:
    """The weighted mean entropy of a text's bigrams and trigrams, in hundredths of a bit; 0 if there are none.

    >>> ngram_entropy("no no no no")
    0.0
    """
    split = words(text)
    return 100 * sum(weight * _entropy(split, n) for n, weight in WEIGHTS.items()) / len(WEIGHTS)


def fluency(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    batch_size: int = BATCH_SIZE,
) -> list[float]:
    """:func:`ngram_entropy` of 100 greedy tokens after each prompt; the text ends where the logits hold NaN.

    Raises:
        ConfigError: a prompt has no tokens, or ``batch_size`` is below 1.
    """
    rows = greedy_tokens(
        model, tokenizer, prompts, max_new_tokens=FLUENCY_TOKENS, batch_size=batch_size, stop_at_eos=False
    )
    return [ngram_entropy(str(tokenizer.decode(row, skip_special_tokens=True))) for row in rows]


def _entropy(split: Sequence[str], n: int) -> float:
    """The entropy of the frequencies of the n-grams, in bits."""
    counts = Counter(zip(*(split[start:] for start in range(n)), strict=False))
    total = counts.total()
    return sum(-count / total * math.log2(count / total) for count in counts.values())
