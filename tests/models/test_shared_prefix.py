"""What texts begin with is read once, and nothing else changes."""

from typing import Any

import pytest
import torch

from roselora.models import generation, prefix_cache, prompt_batches, shared_prefix
from roselora.models.shared_prefix import SAVED, SharedPrefix, inputs_behind, shared_prefixes

HEADER, OTHER = [7] * SAVED, [8] * SAVED


def test_the_prefixes_that_save_most_are_found_and_no_row_has_two() -> None:
    rows = [[*HEADER, 1], [1, 2], [*OTHER, 3, 4], [*HEADER, 2, 5], [*OTHER, 5]]
    assert sorted(shared_prefixes(rows)) == [SharedPrefix(HEADER, [0, 3]), SharedPrefix(OTHER, [2, 4])]


def test_a_long_prefix_of_few_rows_may_save_more_than_a_short_one_of_many() -> None:
    few, many = [1] * 200, [1] * 40
    rows = [[*few, 2], [*few, 3], [*many, 4], [*many, 5]]
    assert shared_prefixes(rows) == [SharedPrefix(few, [0, 1])]


def test_what_saves_too_little_is_read_with_each_row() -> None:
    assert shared_prefixes([[7] * (SAVED - 1) + [1], [7] * (SAVED - 1) + [2]]) == []
    assert shared_prefixes([HEADER]) == []


def test_equal_rows_keep_their_last_token() -> None:
    assert shared_prefixes([[*HEADER, 1], [*HEADER, 1]]) == [SharedPrefix(HEADER, [0, 1])]


def test_rows_are_masked_at_the_prefixes_of_others() -> None:
    prefixes = [SharedPrefix([1, 2], [0]), SharedPrefix([3], [2])]
    inputs = inputs_behind([[1, 2, 9], [5, 6], [3, 4]], prefixes, fill=0)
    assert inputs["input_ids"].tolist() == [[1, 2, 0, 0, 9], [0, 0, 0, 5, 6], [0, 0, 3, 0, 4]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 0, 0, 1], [0, 0, 0, 1, 1], [0, 0, 1, 0, 1]]


@pytest.fixture
def reading(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model, and the numbers of tokens of its passes."""
    model = tiny_model(max_position_embeddings=512)
    passes: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, __: passes.append(given[0].numel()))
    return model, passes


def test_answers_and_activations_are_those_of_each_prompt_alone(reading: Any, tiny_tokenizer: Any) -> None:
    model, passes = reading
    prompts = ["a" * 80 + "b", "c", "a" * 80 + "dcb", "d" * 70 + "a", "d" * 70 + "bb", "abc"]
    alone = [generation.greedy_tokens(model, tiny_tokenizer, [p], max_new_tokens=5)[0] for p in prompts]
    passes.clear()
    assert generation.greedy_tokens(model, tiny_tokenizer, prompts, max_new_tokens=5) == alone
    assert passes[:3] == [80, 70, 18] or passes[:3] == [70, 80, 18]


def test_a_model_with_states_of_another_kind_reads_whole_prompts(
    reading: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, passes = reading
    monkeypatch.setattr(shared_prefix, "all_is_seen", lambda cache, columns: False)
    prompts = ["a" * 80 + "b", "a" * 80 + "dcb"]
    generation.greedy_tokens(model, tiny_tokenizer, prompts, max_new_tokens=1)
    assert passes[0] == 2 * 83


def test_a_cache_of_rows_keeps_what_the_rows_give_alone(reading: Any) -> None:
    model, passes = reading
    row = prefix_cache.SplitRow
    rows = [row([4] * 70 + [1], [2, 3]), row([4] * 70 + [2, 1], [3]), row([5], [2])]
    alone = [prefix_cache.PrefixCache.of_rows(model, 1, [each]).states[0] for each in rows]
    passes.clear()
    cache = prefix_cache.PrefixCache.of_rows(model, 1, rows)
    assert passes[0] == 70
    for own, states, run in zip(alone, cache.states, cache.run(range(3)), strict=True):
        torch.testing.assert_close(states[: len(own)], own, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(run[: len(own)], own, atol=1e-5, rtol=1e-5)


def test_batches_name_their_prefixes(reading: Any, tiny_tokenizer: Any) -> None:
    model, _ = reading
    (batch,) = prompt_batches.prompt_batches(model, tiny_tokenizer, ["a" * 80, "b", "a" * 81], [1, 1, 1], 4)
    (prefix,) = batch.prefixes
    assert len(prefix.ids) == 79
    assert [batch.indices[row] for row in prefix.rows] == [0, 2]
