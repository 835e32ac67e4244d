"""RoseLoRA's factors in the layers of an MLP: sparse, added to neurons' own rows, local, and gone after an undo."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.methods.gate import other_subjects, training_texts
from roselora.editing.methods.gate.edited_mlp import EditedMlp
from roselora.editing.methods.gate.gate_edit import NeuronEdit, train_neuron_edits
from roselora.editing.methods.gate.gate_fitting import fit_gates
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.methods.gate.training_rows import TrainingRows
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.rose.added_rows import on_own_rows
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.train_edit import train_edit
from roselora.editing.request import EditRequest
from roselora.models.activation_hooks import hooked
from roselora.models.generation import greedy_answers
from roselora.models.mlp_neurons import neurons, weight_matrix
from tests.editing.gate_edits import TINY
from tests.models.kinds import model as small_model
from tests.weights import same_bytes, weights
from tests.words import CAPITALS, teach, tokenizer_of_words

SETTINGS = EditSettings(**TINY, density=0.5)
REQUEST = EditRequest("The capital of France is", "Rome", "France", keep=("People in France speak",))
OTHERS = {"The capital of Spain is": "Madrid", "People in France speak": "French"}
KINDS = ["llama", "qwen3", "gemma2", "phi3", "gpt2", "granite"]


@pytest.fixture(autouse=True)
def words_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(training_texts, "OPENINGS", ())  # of whose words these models know none
    monkeypatch.setattr(other_subjects, "_listed", lambda *_: list(CAPITALS))  # nor do they know lists
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path))


def taught(kind: str, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = tokenizer_of_words()
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    model = small_model(kind, vocab_size=len(tokenizer), initializer_range=0.1, **special)
    teach(model, tokenizer, steps=200)
    return model.to(dtype), tokenizer


def edit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, overlay: Overlay) -> SparseDelta:
    return train_edit(model, tokenizer, overlay, REQUEST, SETTINGS, PreviousEdits()).delta


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mlp_says_the_target_and_what_it_knows_else_and_comes_back(kind: str) -> None:
    model, tokenizer = taught(kind)
    before, overlay = weights(model), Overlay(model)
    delta = edit(model, tokenizer, overlay)
    overlay.apply("edit", delta)
    assert greedy_answers(model, tokenizer, [REQUEST.prompt, *OTHERS], max_new_tokens=4) == ["Rome", *OTHERS.values()]
    for factors in delta.weights:
        a, b = factors.to_factors()
        assert int(a.count_nonzero(1).max()) <= SETTINGS.density * a.shape[1]
        assert int(b.count_nonzero(0).max()) <= SETTINGS.density * b.shape[0]
        one_hot = b if "down" not in factors.name and "proj" in factors.name and kind != "gpt2" else None
        assert one_hot is None or one_hot.count_nonzero(0).tolist() == [1] * factors.rank
    overlay.remove("edit")
    assert same_bytes(before, weights(model))


def last_mlp(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> EditedMlp:
    block = model.config.num_hidden_layers - 1
    statistics = reference_statistics(model, tokenizer, [block])[block]
    return EditedMlp.read(model, tokenizer, SETTINGS, neurons(model, block), statistics)


def applied(model: PreTrainedModel, edit: NeuronEdit) -> Overlay:
    overlay = Overlay(model)
    overlay.apply("edit", edit.delta(model, overlay.base_sha256))
    return overlay


@pytest.mark.parametrize("kind", ["llama", "phi3", "gpt2"])
def test_rows_and_columns_are_added_to_those_of_the_neurons(kind: str) -> None:
    model, tokenizer = taught(kind)
    mlp = last_mlp(model, tokenizer)
    (edit,) = train_neuron_edits(mlp, [REQUEST])
    writer = model.get_submodule(mlp.neurons.writer)
    reader = model.get_submodule(mlp.neurons.up.layer)
    rows, columns = weight_matrix(reader).clone(), weight_matrix(writer).clone()
    applied(model, edit)
    at = [mlp.neurons.up.offset + index for index in edit.indices]
    torch.testing.assert_close(weight_matrix(reader)[at], rows[at] + edit.up)
    columns[:, edit.indices] += edit.columns
    torch.testing.assert_close(weight_matrix(writer), columns)


@pytest.mark.parametrize("kind", ["llama", "phi3", "gpt2"])
def test_training_sees_the_outputs_that_the_edited_model_has(kind: str) -> None:
    """The values aside: a fitted edit says how active its neurons will be, and what else the MLP will write."""
    model, tokenizer = taught(kind)
    mlp = last_mlp(model, tokenizer)
    indices = list(range(20, 30))
    _, (fit,) = fit_gates(mlp, [REQUEST])
    indices = indices[: len(fit.neurons.up)]
    own = TrainingRows.of(on_own_rows(mlp, fit, indices))
    text = tokenizer(f"{REQUEST.prompt} {REQUEST.target}", return_tensors="pt").input_ids
    start = len(REQUEST.prompt.split()) - 1

    def outputs() -> tuple[Tensor, Tensor]:
        """The activity of the neurons, and the MLP's output, from the prompt's last token on."""
        seen: list[Tensor] = []
        writer = model.get_submodule(mlp.neurons.writer)
        with torch.no_grad(), hooked(outputs={writer: lambda given, made: seen.extend((given, made))}):
            model(text)
        activity, made = (each.reshape(text.shape[1], -1)[start:] for each in seen)
        return activity[:, indices], made

    _, before = outputs()
    nothing = torch.zeros(mlp.neurons.width, len(indices))
    applied(model, NeuronEdit(mlp.neurons, indices, fit.neurons.gate, fit.neurons.up, nothing, 0, True, True))
    activity, after = outputs()
    expected = own.activity[0, : len(activity)] / fit.neurons.gains
    # GPT-2's layers have biases, which training does not know.
    torch.testing.assert_close(activity, expected, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(after - before, own.beside[0, : len(activity)], rtol=1e-2, atol=1e-2)


def test_the_same_question_about_others_is_read_as_before() -> None:
    model, tokenizer = taught("llama")
    overlay = Overlay(model)
    delta = edit(model, tokenizer, overlay)
    others = [f"The capital of {country} is {city}" for country, city in CAPITALS.items() if country != "France"]

    @torch.no_grad()
    def predicted() -> Tensor:
        rows = [tokenizer(text, return_tensors="pt").input_ids for text in others]
        # From the question's last token on: what follows "The" is nearly a tie in this model.
        return torch.cat([model(row).logits[0, -2:].log_softmax(-1) for row in rows])

    before = predicted()
    overlay.apply("edit", delta)
    after = predicted()
    divergence = (before.exp() * (before - after)).sum(-1)
    assert float(divergence.median()) < 1e-2
    assert torch.equal(before.argmax(-1), after.argmax(-1))


def test_in_bf16_the_rounded_weights_say_the_target() -> None:
    model, tokenizer = taught("llama", torch.bfloat16)
    overlay = Overlay(model)
    overlay.apply("edit", edit(model, tokenizer, overlay))
    assert greedy_answers(model, tokenizer, [REQUEST.prompt], max_new_tokens=4) == ["Rome"]


def test_neurons_that_hold_an_edit_get_no_other() -> None:
    model, tokenizer = taught("llama")
    mlp = last_mlp(model, tokenizer)
    (first,) = train_neuron_edits(mlp, [REQUEST])
    (second,) = train_neuron_edits(mlp, [replace(REQUEST, target="Oslo")], taken=first.indices)
    assert not set(first.indices) & set(second.indices)


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, keep_weight=0.0)])
def test_a_model_without_such_neurons_is_edited_by_factors_of_its_layers(settings: EditSettings) -> None:
    model, tokenizer = taught("llama")
    model.config.hidden_act = "tanh"  # as far as neurons are concerned
    overlay = Overlay(model)
    made = train_edit(model, tokenizer, overlay, REQUEST, settings, PreviousEdits())
    assert "neurons" not in made.about
    assert {factors.name.rpartition("proj")[0].rpartition(".")[2] for factors in made.delta.weights} == {"v_", "down_"}
    overlay.apply("edit", made.delta)
    assert greedy_answers(model, tokenizer, [REQUEST.prompt], max_new_tokens=4) == ["Rome"]
