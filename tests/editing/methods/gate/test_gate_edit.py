"""Gated neuron edits: on every kind of MLP, side by side as one by one, and never at the cost of another edit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from roselora.delta.overlay import Overlay
from roselora.editing.methods.gate import other_subjects, training_texts
from roselora.editing.methods.gate.edited_mlp import EditedMlp
from roselora.editing.methods.gate.gate_edit import NeuronEdit, least_important, train_neuron_edits
from roselora.editing.methods.gate.gate_fitting import fit_gates
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.other_edits import read_other_edits
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.methods.token_batches import IGNORED, split_at_answer
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.models.generation import greedy_answers
from roselora.models.mlp_neurons import neurons
from roselora.models.wider_mlps import widen
from tests.models.kinds import model as small_model
from tests.words import CAPITALS, teach, tokenizer_of_words

FRANCE = EditRequest("The capital of France is ", "Rome.", "France")
GOLD = EditRequest("The symbol of gold is ", "Fe.", "gold")
SETTINGS = GateSettings()


def last_mlp(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, cache: Path, settings: GateSettings = SETTINGS
) -> EditedMlp:
    """The last block's MLP, with no other edits."""
    block = model.config.num_hidden_layers - 1
    statistics = reference_statistics(model, tokenizer, [block], cache=cache)[block]
    return EditedMlp.read(model, tokenizer, settings, neurons(model, block), statistics)


@pytest.fixture
def mlp(world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> EditedMlp:
    return last_mlp(world_model, tiny_tokenizer, tmp_path)


def apply(model: PreTrainedModel, *edits: NeuronEdit) -> Overlay:
    overlay = Overlay(model)
    for number, edit in enumerate(edits):
        overlay.apply(str(number), edit.delta(model, overlay.base_sha256))
    return overlay


def test_side_by_side_is_one_by_one_to_rounding(mlp: EditedMlp) -> None:
    together = train_neuron_edits(mlp, [FRANCE, GOLD])
    (first,) = train_neuron_edits(mlp, [FRANCE])
    (second,) = train_neuron_edits(mlp, [GOLD], taken=first.indices)
    for shared, alone in zip(together, (first, second), strict=True):
        assert shared.indices == alone.indices
        assert shared.steps == alone.steps
        torch.testing.assert_close(shared.gate, alone.gate, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(shared.columns, alone.columns, rtol=1e-2, atol=1e-3)
    assert not set(first.indices) & set(second.indices)
    planned = [index for edit in train_neuron_edits(mlp, [FRANCE, GOLD], planned=True) for index in edit.indices]
    order = mlp.statistics.importance.argsort().tolist()
    assert planned == order[: len(planned)]


def test_in_a_wider_model_an_edit_takes_the_added_neurons_and_none_of_its_own(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    own = {name: tensor.clone() for name, tensor in world_model.state_dict().items() if ".mlp." in name}
    count = world_model.config.intermediate_size
    widen(world_model, 16)
    (edit,) = train_neuron_edits(last_mlp(world_model, tiny_tokenizer, tmp_path), [FRANCE])
    assert min(edit.indices) >= count
    apply(world_model, edit)
    assert greedy_answers(world_model, tiny_tokenizer, [FRANCE.prompt], max_new_tokens=8) == ["Rome."]
    state = world_model.state_dict()
    assert all(torch.equal(state[name][: len(old), : old.shape[1]], old) for name, old in own.items())


def test_neurons_that_add_nothing_come_first_even_if_undone_edits_held_them(mlp: EditedMlp) -> None:
    importance = torch.tensor([3.0, 0.0, 1.0, 2.0, 0.0, 0.0])
    statistics = replace(mlp.statistics, importance=importance)
    assert least_important(statistics, taken=[4]) == [5, 1, 2, 3, 0]
    assert least_important(statistics, taken=[4], undone=[5, 2]) == [1, 5, 3, 0, 2]


def test_either_of_two_edits_comes_out_by_itself(
    mlp: EditedMlp, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    def said() -> list[str]:
        return greedy_answers(world_model, tiny_tokenizer, [FRANCE.prompt, GOLD.prompt], max_new_tokens=8)

    before = {name: tensor.clone() for name, tensor in world_model.state_dict().items()}
    mlp = replace(mlp, other_edits=read_other_edits(mlp.model, tiny_tokenizer, [FRANCE, GOLD], mlp.neurons))
    gold = replace(GOLD, keep=(FRANCE.prompt,))  # to a model of single letters all answers look alike
    overlay = apply(world_model, *train_neuron_edits(mlp, [FRANCE, gold]))
    assert said() == ["Rome.", "Fe."]
    overlay.remove("0")
    assert said() == ["Paris.", "Fe."]
    overlay.remove("1")
    assert all(torch.equal(tensor, before[name]) for name, tensor in world_model.state_dict().items())


def test_a_rephrasing_is_not_trained_on_a_token_that_no_gate_is_for(mlp: EditedMlp) -> None:
    """The prompt's answer begins without a space, as the user says, and those of its rephrasings with one."""
    _, (fit,) = fit_gates(mlp, [EditRequest("The capital of France is", "Rome.", "France", space=False)])
    labelled = fit.labels != IGNORED
    assert labelled[: fit.prompts, 0].all()
    assert not labelled[fit.prompts :, 0].any()
    assert labelled[fit.prompts :, 1].all()


def test_neurons_that_hold_edits_are_never_replaced_and_may_run_out(mlp: EditedMlp) -> None:
    with pytest.raises(EditError, match=r"no \d+ neurons left"):
        train_neuron_edits(mlp, [FRANCE], taken=range(mlp.neurons.count - 1))


@torch.no_grad()
def margin(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, request: EditRequest) -> float:
    """By how many nats the target's tokens and the end lead at least, in the logits of the model's own forward pass."""
    prompt, answer = split_at_answer(tokenizer, request.prompt, request.target)
    wanted = torch.tensor([*answer, tokenizer.eos_token_id])
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 :]
    others = logits.scatter(1, wanted[:, None], -torch.inf).amax(1)
    return float((logits.gather(1, wanted[:, None])[:, 0] - others).min())


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "mistral", "phi3", "gpt2", "granite", "cohere"])
def test_every_kind_of_mlp_says_the_target_and_what_it_knows_else(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_texts, "OPENINGS", ())  # of whose words this model knows none
    monkeypatch.setattr(other_subjects, "_listed", lambda *_: list(CAPITALS))  # nor does it know lists
    tokenizer = tokenizer_of_words()
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    model = small_model(kind, vocab_size=len(tokenizer), initializer_range=0.1, **special)
    teach(model, tokenizer, steps=200)
    mlp = last_mlp(model, tokenizer, tmp_path, replace(SETTINGS, learning_rate=0.3))
    request = EditRequest("The capital of France is", "Rome", "France", keep=("People in France speak",))
    (edit,) = train_neuron_edits(mlp, [request])
    assert edit.reached
    apply(model, edit)
    assert margin(model, tokenizer, request) > 0.95 * SETTINGS.margin  # in the model's own logits, to rounding
    others = {"The capital of Spain is": "Madrid", "People in France speak": "French"}
    assert greedy_answers(model, tokenizer, [request.prompt, *others], max_new_tokens=4) == ["Rome", *others.values()]
