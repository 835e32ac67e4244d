from roselora.models.prompt_batches import prompt_batches


def test_prompts_of_similar_limits_and_lengths_share_a_left_padded_batch(tiny_model, tiny_tokenizer):
    batches = list(prompt_batches(tiny_model(), tiny_tokenizer, ["aaaa", "b", "ccc", "d"], [5, 1, 5, 1], 2))
    assert [batch.indices for batch in batches] == [[1, 3], [2, 0]]
    assert [batch.limits for batch in batches] == [[1, 1], [5, 5]]
    assert batches[1].inputs["attention_mask"].tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]


def test_no_row_of_a_batch_reads_beyond_the_models_context(tiny_model, tiny_tokenizer):
    model = tiny_model(max_position_embeddings=8)
    batches = list(prompt_batches(model, tiny_tokenizer, ["a" * 8, "b"], [6, 6], 2))
    assert [(batch.indices, batch.limits) for batch in batches] == [([0], [1]), ([1], [6])]


def test_prompts_of_one_new_token_do_not_wait_for_longer_answers(tiny_model, tiny_tokenizer):
    batches = list(prompt_batches(tiny_model(), tiny_tokenizer, ["a", "b", "c", "d"], [5, 1, 7, 1], 8))
    assert [batch.indices for batch in batches] == [[1, 3], [0, 2]]
