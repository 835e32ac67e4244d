from typing import Any

import torch

from roselora.editing.methods.rose.factor_training import train_factors
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.rose.training_rows import TrainingRows
from roselora.editing.methods.token_batches import IGNORED
from roselora.editing.request import EditRequest

REQUEST = EditRequest("The capital of France is", "Rome.", "France", keep=("The symbol of gold is",))
SETTINGS = EditSettings(warmup=2, ramp=6, learning_rate=0.2, keep_weight=0.1)


def test_one_layer_is_adapted_and_the_model_is_as_before(world_model: Any, tiny_tokenizer: Any) -> None:
    before = {name: weight.clone() for name, weight in world_model.state_dict().items()}
    (pair,), stopped = train_factors(world_model, tiny_tokenizer, REQUEST, SETTINGS)
    assert stopped.reached
    assert pair.name == "model.layers.1.mlp.down_proj"
    assert world_model.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in world_model.state_dict().items())


def test_every_row_of_a_and_column_of_b_ends_at_the_density(world_model: Any, tiny_tokenizer: Any) -> None:
    (pair,), _ = train_factors(world_model, tiny_tokenizer, REQUEST, SETTINGS)
    assert int(pair.a.count_nonzero(1).max()) <= 128 * SETTINGS.density
    assert int(pair.b.count_nonzero(0).max()) <= 64 * SETTINGS.density


def test_named_modules_are_trained_as_in_the_paper_in_all_blocks(world_model: Any, tiny_tokenizer: Any) -> None:
    settings = EditSettings(target_modules=("v_proj",), learning_rate=2e-2, keep_weight=0.0, max_steps=12)
    pairs, _ = train_factors(world_model, tiny_tokenizer, REQUEST, settings)
    assert [pair.name for pair in pairs] == [f"model.layers.{block}.self_attn.v_proj" for block in (0, 1)]
    rows = TrainingRows.of(world_model, tiny_tokenizer, REQUEST, settings, ())
    assert len(rows.ids) == rows.prompts == 1
    assert rows.kept == []


def test_a_row_with_the_answer_has_labels_for_its_tokens_and_the_end(world_model: Any, tiny_tokenizer: Any) -> None:
    rows = TrainingRows.of(world_model, tiny_tokenizer, REQUEST, SETTINGS, ("The symbol of iron is",))
    text, end = "The capital of France is Rome.", tiny_tokenizer.eos_token_id
    ids = tiny_tokenizer(text).input_ids
    assert rows.ids[0] == ids
    answer = [label for label in rows.labels[0].tolist() if label != IGNORED]
    assert answer == [*ids[-len(answer) + 1 :], end]
    assert tiny_tokenizer.decode(answer[:-1]) == " Rome."
    kept = rows.kept[0]
    assert len(kept.rows) == 2
    assert kept.always == 1
    assert tiny_tokenizer.decode(rows.ids[kept.rows[1]]).startswith("The symbol of iron is Fe.")
