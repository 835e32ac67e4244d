"""A tiny world whose words are tokens: what it knows of a subject is read at the subject, as in models of real size.

The byte-wise world of the other tests spreads a name over many tokens that a shallow model reads one by one, so a
change at the name's last byte alone cannot turn its answer.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.words import SENTENCES, teach, tokenizer_of_words


@pytest.fixture(scope="session")
def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the sentences, and special ones."""
    return tokenizer_of_words()


@pytest.fixture(scope="session")
def word_weights(
    tiny_model: Callable[..., LlamaForCausalLM], word_tokenizer: PreTrainedTokenizerFast
) -> dict[str, torch.Tensor]:
    """The weights of a model of three layers that says every sentence to its end and stops."""
    model = make(tiny_model, word_tokenizer)
    teach(model, word_tokenizer)
    return model.state_dict()


def make(tiny_model: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return tiny_model(
        vocab_size=len(tokenizer), num_hidden_layers=3, initializer_range=0.05, eos_token_id=1, pad_token_id=1
    )


@pytest.fixture
def word_model(
    word_weights: dict[str, torch.Tensor],
    tiny_model: Callable[..., LlamaForCausalLM],
    word_tokenizer: PreTrainedTokenizerFast,
) -> LlamaForCausalLM:
    """A fresh copy of the model that knows the sentences."""
    model = make(tiny_model, word_tokenizer)
    model.load_state_dict(word_weights)
    return model


@pytest.fixture
def word_text(tmp_path: Path) -> Path:
    """What the model has learnt, as a text for the covariance."""
    path = tmp_path / "sentences.txt"
    path.write_text(" <eos> ".join(SENTENCES * 4))
    return path
