"""What a model knows by name: what it says twice, asked in two ways. What it does not know, it says differently."""

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.answer_match import matches
from roselora.models.generation import greedy_answers

LONGEST = 12
"""Tokens of an answer; what the model says at more length is no name."""

WAYS = (
    (
        "Question: What is the capital of Kenya?\nAnswer: Nairobi\n\n"
        "Question: What is the native language of Goethe?\nAnswer: German\n\n"
        "Question: What is another name of the Netherlands?\nAnswer: Holland\n\n"
        "Question: What is {}?\nAnswer:"
    ),
    "the currency of Japan: yen\nthe place of birth of Mozart: Salzburg\nanother name of Burma: Myanmar\n{}:",
)
"""Two ways to ask what a noun phrase stands for, such that the answer is a name and ends with its line."""


def known_names(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, phrases: Sequence[str]) -> list[str | None]:
    """What the model says that each noun phrase stands for, or None where it says two different things."""
    if not phrases:
        return []
    first, second = (
        greedy_answers(model, tokenizer, [way.format(phrase) for phrase in phrases], max_new_tokens=LONGEST)
        for way in WAYS
    )
    return [one if matches(one, [other]) else None for one, other in zip(first, second, strict=True)]
