import math
from typing import Any

import pytest
import torch

from roselora.bench.metrics.perplexity import perplexity, text_losses


def test_the_loss_is_the_mean_of_the_tokens_log_probabilities(tiny_model: Any, tiny_tokenizer: Any) -> None:
    model = tiny_model()
    ids = tiny_tokenizer("abc").input_ids
    with torch.no_grad():
        log_probabilities = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    expected = -sum(float(log_probabilities[place, ids[place + 1]]) for place in range(2)) / 2
    assert text_losses(model, tiny_tokenizer, ["abc"]) == [pytest.approx(expected, rel=1e-5)]


def test_every_text_is_scored_alone_and_cut(tiny_model: Any, tiny_tokenizer: Any) -> None:
    model = tiny_model().train()
    long, short = text_losses(model, tiny_tokenizer, ["a long text", "ab"], max_length=4)
    assert [long] == text_losses(model, tiny_tokenizer, ["a lo"])
    assert [short] == text_losses(model, tiny_tokenizer, ["ab"])
    assert model.training


def test_perplexity_by_hand() -> None:
    assert perplexity([math.log(2), math.log(8)]) == pytest.approx(4)


def test_a_text_of_one_token_is_refused(tiny_model: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="fewer than two tokens"):
        text_losses(tiny_model(), tiny_tokenizer, ["a"])
