"""The paper's own procedure, on named modules."""

from typing import Any

import torch

from roselora.editing.methods.rose import factor_training
from roselora.editing.methods.rose.factor_training import train_factors
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.request import EditRequest

REQUEST = EditRequest("The capital of France is", "Rome.", "France", keep=("The symbol of gold is",))
SETTINGS = EditSettings(
    target_modules=("v_proj", "down_proj"), warmup=2, ramp=6, learning_rate=2e-2, keep_weight=0.1, max_steps=100
)


def test_named_modules_are_adapted_in_all_blocks_and_the_model_is_as_before(
    world_model: Any, tiny_tokenizer: Any
) -> None:
    before = {name: weight.clone() for name, weight in world_model.state_dict().items()}
    pairs, stopped = train_factors(world_model, tiny_tokenizer, REQUEST, SETTINGS)
    assert stopped.reached
    names = [f"model.layers.{block}.{name}" for block in (0, 1) for name in ("self_attn.v_proj", "mlp.down_proj")]
    assert [pair.name for pair in pairs] == names
    assert world_model.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in world_model.state_dict().items())


def test_every_row_of_a_and_column_of_b_ends_at_the_density(world_model: Any, tiny_tokenizer: Any) -> None:
    pairs, _ = train_factors(world_model, tiny_tokenizer, REQUEST, SETTINGS)
    for pair in pairs:
        assert int(pair.a.count_nonzero(1).max()) <= pair.a.shape[1] * SETTINGS.density
        assert int(pair.b.count_nonzero(0).max()) <= pair.b.shape[0] * SETTINGS.density


def test_what_is_kept_are_answers_to_the_prompts_and_every_token_of_neutral_texts(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(factor_training, "NEUTRAL_TEXTS", ("Nothing.",))
    previous = (REQUEST.prompt, "The symbol of iron is")
    prompts, neutral = factor_training._kept(world_model, tiny_tokenizer, REQUEST, SETTINGS, previous)
    texts = [tiny_tokenizer.decode(row) for row in (*prompts.input_ids, *neutral.input_ids)]
    for text, start in zip(texts, ("The symbol of gold is Au.", "The symbol of iron is Fe.", "Nothing."), strict=True):
        assert text.startswith(start)
    counted = [(batch.labels != factor_training.IGNORED).sum(1) for batch in (prompts, neutral)]
    asked = [len(tiny_tokenizer(text).input_ids) for text in ("The symbol of gold is", "The symbol of iron is")]
    assert counted[0].tolist() == (prompts.attention_mask.sum(1) - torch.tensor(asked) + 1).tolist()
    assert counted[1].tolist() == neutral.attention_mask.sum(1).tolist()
