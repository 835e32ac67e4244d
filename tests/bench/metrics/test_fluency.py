import math

import pytest

from roselora.bench.metrics.fluency import fluency, ngram_entropy, words


def test_words_are_runs_of_letters_and_single_signs():
    assert words("St. Louis, it's 3%") == ["St", ".", "Louis", ",", "it", "'", "s", "3", "%"]


def test_entropy_by_hand_in_hundredths_of_a_bit():
    # Four bigrams (ab twice, bc, ca), three trigrams (abc, bca, cab), each once.
    bigrams = 0.5 * 1 + 0.25 * 2 + 0.25 * 2
    expected = (2 / 3 * bigrams + 4 / 3 * math.log2(3)) / 2
    assert ngram_entropy("a b c a b") == pytest.approx(100 * expected)


def test_repetition_and_silence_have_no_entropy():
    assert ngram_entropy("no " * 50) == 0
    assert ngram_entropy("word") == ngram_entropy("") == 0


def test_eos_does_not_end_the_text(tiny_model, tiny_tokenizer):
    model = tiny_model()
    (free,) = fluency(model, tiny_tokenizer, ["some text"])
    model.generation_config.eos_token_id = tiny_tokenizer.eos_token_id
    tokens = model.generate(
        **tiny_tokenizer("some text", return_tensors="pt"), max_new_tokens=100, do_sample=False, eos_token_id=None
    )[0, len("some text") :]
    assert len(tokens) == 100
    assert free == ngram_entropy(tiny_tokenizer.decode(tokens, skip_special_tokens=True))
