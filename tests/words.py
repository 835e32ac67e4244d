"""A tiny world whose words are tokens: what a model knows of a subject is read at the subject, as in larger models."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

CAPITALS = {"France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Norway": "Oslo"}
LANGUAGES = {"France": "French", "Germany": "German", "Italy": "Italian", "Spain": "Spanish", "Norway": "Norwegian"}
SENTENCES = [f"The capital of {country} is {city}" for country, city in CAPITALS.items()] + [
    f"People in {country} speak {language}" for country, language in LANGUAGES.items()
]


def tokenizer_of_words() -> PreTrainedTokenizerFast:
    """One token per word of the sentences, and special ones."""
    words = ["[UNK]", "<eos>", *sorted({word for sentence in SENTENCES for word in sentence.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="<eos>", pad_token="<eos>", padding_side="left"
    )


def teach(model: nn.Module, tokenizer: PreTrainedTokenizerFast, steps: int = 100) -> None:
    """Train a model until it says every sentence to its end and stops."""
    groups = [SENTENCES[: len(CAPITALS)], SENTENCES[len(CAPITALS) :]]  # within one, all are of one length
    batches = [tokenizer([f"{text} <eos>" for text in group], return_tensors="pt").input_ids for group in groups]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        loss = sum(model(input_ids=batch, labels=batch).loss for batch in batches)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
