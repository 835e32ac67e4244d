"""What an MLP reads where other edits are asked for."""

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from roselora.editing.methods.gate import other_edits, training_texts
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.gate.other_edits import nearest_edits, read_other_edits
from roselora.editing.request import EditRequest
from roselora.models.mlp_neurons import recorded_inputs

FRANCE = EditRequest("The capital of France is", "Rome", "France")
GOLD = EditRequest("The symbol of gold is", "Fe in Rome", "gold")


def test_each_token_of_an_answer_is_read_and_the_prompts_last(
    tiny_model: Callable[..., PreTrainedModel], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny_model()
    mlp = editable_mlps(model, GateSettings())[0]
    held = read_other_edits(model, tiny_tokenizer, [FRANCE, GOLD], mlp)
    expected = []
    for request in (FRANCE, GOLD):
        ids = tiny_tokenizer(f"{request.prompt} {request.target}", return_tensors="pt").input_ids
        start = len(tiny_tokenizer(request.prompt).input_ids) - 1
        with recorded_inputs(model, mlp) as read, torch.no_grad():
            model(input_ids=ids)
        expected.append(read[0][0, start:])
    torch.testing.assert_close(held.states, torch.cat(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(held.excluding(GOLD), expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(held.excluding(FRANCE), expected[1], rtol=1e-4, atol=1e-5)


def test_of_the_same_subject_prompts_are_read_behind_other_text_too(
    tiny_model: Callable[..., PreTrainedModel], tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_texts, "OPENINGS", ("Well. ", "So. "))
    model = tiny_model()
    mlp = editable_mlps(model, GateSettings())[0]
    alone = read_other_edits(model, tiny_tokenizer, [FRANCE, GOLD], mlp)
    held = read_other_edits(model, tiny_tokenizer, [FRANCE, GOLD], mlp, {"France"})
    assert held.prompts.count(FRANCE.prompt) == 3 * alone.prompts.count(FRANCE.prompt)
    assert len(held.excluding(FRANCE)) == len(alone.excluding(FRANCE)) == held.prompts.count(GOLD.prompt)


def test_the_nearest_previous_edits_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_edits, "NEAREST", 3)
    asked = ["Who made tea?", "Where did Ann Lee die?", "Where was Ann Lee born?", "Where was Bo Fox born?", "Who won?"]
    tea, died, born, other, won = (EditRequest(prompt, "Rome") for prompt in asked)
    assert nearest_edits([born], [tea, died, born, other, won]) == [died, other, won]
    assert nearest_edits([born, tea], [tea, died, other, won]) == [died, other, won]
    assert nearest_edits([won, born], []) == []


def test_without_other_edits_nothing_is_read(
    tiny_model: Callable[..., PreTrainedModel], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny_model()
    mlp = editable_mlps(model, GateSettings())[0]
    assert read_other_edits(model, tiny_tokenizer, [], mlp).excluding(FRANCE).shape == (0, mlp.width)
