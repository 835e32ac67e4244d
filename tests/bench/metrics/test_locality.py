import math
import random

import pytest
import torch

from roselora.bench.metrics.locality import continuation_row, kl_divergence
from roselora.models.generation import greedy_tokens
from roselora.models.teacher_forcing import teacher_forced

PROMPTS = ["Hello", "a much longer prompt, with words", "x", "The capital is", "y z", "1, 2, 3", "q" * 30]


def eos_prone(model, tokenizer, boost):
    """The model with a likelier end-of-sequence token."""
    handle = model.lm_head.register_forward_hook(
        lambda module, inputs, output: output + boost * torch.eye(output.shape[-1])[tokenizer.eos_token_id]
    )
    return model, handle


def still_said(model, tokenizer, prompts, base, batch_size=16):
    """Whether each prompt's first 6 tokens are the base's, and the next token's log-probabilities, by one pass."""
    pairs = [continuation_row(tokenizer, *pair, max_new_tokens=6) for pair in zip(prompts, base, strict=True)]
    same, distributions = [False] * len(pairs), [torch.empty(0)] * len(pairs)
    for index, forced in teacher_forced(model, [row for row, _ in pairs], batch_size=batch_size):
        same[index] = forced.tokens == pairs[index][1]
        distributions[index] = forced.log_probabilities()
    return same, distributions


def test_one_pass_says_what_generation_would(tiny_model, tiny_tokenizer):
    seen = set()
    for seed in range(8):
        base, _ = eos_prone(tiny_model(seed), tiny_tokenizer, boost=5 + 0.5 * seed)
        said = greedy_tokens(base, tiny_tokenizer, PROMPTS, max_new_tokens=6)
        edited, _ = eos_prone(tiny_model(seed), tiny_tokenizer, boost=5 + 0.5 * seed + 0.2 * (seed % 2))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in edited.parameters():
                weight += 0.005 * torch.randn(weight.shape, generator=generator)
        again = greedy_tokens(edited, tiny_tokenizer, PROMPTS, max_new_tokens=6)
        slow = [before == after for before, after in zip(said, again, strict=True)]
        for batch_size in (1, 3, 16):
            fast, distributions = still_said(edited, tiny_tokenizer, PROMPTS, said, batch_size=batch_size)
            assert fast == slow
            for prompt, found in zip(PROMPTS, distributions, strict=True):
                logits = edited(torch.tensor([tiny_tokenizer(prompt).input_ids])).logits[0, -1]
                torch.testing.assert_close(found, logits.log_softmax(-1), rtol=0, atol=1e-4)
        seen |= {(len(tokens) < 6, same) for tokens, same in zip(said, slow, strict=True)}
    assert seen == {(True, True), (True, False), (False, True), (False, False)}


def test_an_answer_that_goes_on_where_the_base_stopped_has_moved(tiny_model, tiny_tokenizer):
    model = tiny_model()
    (said,) = greedy_tokens(model, tiny_tokenizer, ["abc"], max_new_tokens=6)
    assert still_said(model, tiny_tokenizer, ["abc"], [said])[0] == [True]
    cut = said[: random.Random(0).randrange(1, 5)]
    assert still_said(model, tiny_tokenizer, ["abc"], [cut])[0] == [False]


def test_a_model_that_gives_nan_has_moved(tiny_model, tiny_tokenizer):
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    assert still_said(model, tiny_tokenizer, ["abc"], [[]])[0] == [False]


def test_kl_is_in_nats_of_the_base_from_the_edited_model() -> None:
    base = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()
    edited = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    by_hand = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), math.log(2)]
    assert kl_divergence(base, edited).tolist() == pytest.approx(by_hand)
    assert kl_divergence(base, base).tolist() == [0.0, 0.0]


def test_a_model_that_gives_nan_is_infinitely_far_away() -> None:
    base = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()
    broken = torch.tensor([[math.nan, 0.0], [0.0, math.nan]])
    assert kl_divergence(base, broken).tolist() == [math.inf, math.inf]
