"""Gated neuron edits made together: MLP by MLP, inactive at each other's prompts, without what later ones replace."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.delta.overlay import Overlay
from roselora.editing.methods.gate import edited_mlp, joint_edits, layer_choice, training_texts
from roselora.editing.methods.gate.edited_mlp import EditedMlp
from roselora.editing.methods.gate.gate_edit import NeuronEdit, train_neuron_edits
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.joint_edits import JointEdits, requests_with_room
from roselora.editing.methods.gate.other_edits import OtherEditInputs, read_other_edits
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.request import EditRequest
from roselora.models.mlp_neurons import Neurons, neurons

REQUESTS = (
    EditRequest("The capital of France is", "Rome", "France"),
    EditRequest("The symbol of gold is", "Fe", "gold"),
    EditRequest("The capital of Spain is", "Paris", "Spain"),
)
TWO_BLOCKS = GateSettings(depth=1.0, lowest_depth=0.5, learning_rate=0.3)


@dataclass
class Made:
    """Two MLPs, each full after one edit, and what is read and made in which block, of how many requests."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    calls: list[tuple[str, int, int]] = field(default_factory=list)
    silent: list[tuple[int, int]] = field(default_factory=list)
    edits: dict[int, NeuronEdit] = field(default_factory=dict)

    def joint(self, *requests: EditRequest, previous: PreviousEdits | None = None) -> JointEdits:
        return JointEdits(self.model, self.tokenizer, requests, TWO_BLOCKS, previous or PreviousEdits())

    def put(self, numbers: Sequence[int], edits: Sequence[NeuronEdit]) -> None:
        for number, edit in zip(numbers, edits, strict=True):
            overlay = Overlay(self.model)
            overlay.apply("edit", edit.delta(self.model, overlay.base_sha256))
            self.edits[number] = edit


@pytest.fixture
def made(
    word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> Made:
    monkeypatch.setattr(layer_choice, "LEVEL", 0.01)
    monkeypatch.setattr(training_texts, "OPENINGS", ())  # of whose words this model knows none
    made = Made(word_model, word_tokenizer)
    above = word_model.get_submodule(neurons(word_model, 2).writer)

    def note(name: str, block: int, requests: Sequence[EditRequest]) -> None:
        made.calls.append((name, block, len(requests)))
        made.silent.append((block, len(above._forward_pre_hooks)))

    def read(
        model: Any, tokenizer: Any, requests: Sequence[EditRequest], own: Neurons, subjects: Collection[str]
    ) -> OtherEditInputs:
        note("read", own.block, requests)
        return read_other_edits(model, tokenizer, requests, own, subjects)

    def train(mlp: EditedMlp, requests: Sequence[EditRequest], *given: Any, **options: Any) -> list[NeuronEdit]:
        note("train", mlp.neurons.block, requests)
        return train_neuron_edits(mlp, requests, *given, **options)

    monkeypatch.setattr(edited_mlp, "read_other_edits", read)
    monkeypatch.setattr(joint_edits, "train_neuron_edits", train)
    return made


def test_those_fit_for_which_there_are_neurons_and_of_two_with_one_prompt_the_later_is_not_first(made: Made) -> None:
    """Each answer of these is one word and the end of the sequence."""
    count = neurons(made.model, 1).count

    def fit(requests: Sequence[EditRequest], left: dict[int, int]) -> list[int]:
        taken = {block: range(count - room) for block, room in left.items()}
        return requests_with_room(made.model, made.tokenizer, requests, TWO_BLOCKS, taken)

    longer = EditRequest("The capital of France is", "Rome Rome", "France")
    assert fit(REQUESTS, {1: 2, 2: 2}) == [0, 1]
    assert fit(REQUESTS, {1: 3, 2: 1}) == [0]
    assert fit([longer, *REQUESTS[1:]], {1: 2, 2: 2}) == [1, 2]
    assert fit([longer, *REQUESTS], {1: 2, 2: 2}) == [2, 3]
    assert fit(REQUESTS, {1: 0, 2: 0}) == []
    assert fit(REQUESTS, {}) == [0, 1, 2]


def test_the_lower_mlp_is_edited_first_and_the_higher_one_reads_what_that_made(made: Made) -> None:
    made.joint(*REQUESTS).make(made.put)
    assert made.calls == [
        ("read", 1, 3),
        ("train", 1, 1),
        ("read", 2, 3),
        ("train", 2, 2),
    ]


def test_what_the_higher_mlp_will_lose_is_silent_until_that_is_edited(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    silenced: list[tuple[int, list[int]]] = []
    real = joint_edits.silenced

    def silent(model: Any, place: Any, indices: Any) -> Any:
        silenced.append((place.block, list(indices)))
        return real(model, place, indices)

    monkeypatch.setattr(joint_edits, "silenced", silent)
    made.joint(*REQUESTS).make(made.put)
    assert made.silent == [(1, 1), (1, 1), (2, 0), (2, 0)]
    upper = made.edits[0].indices + made.edits[2].indices
    ((block, lost),) = silenced
    assert (block, lost[: len(upper)]) == (2, upper)
    assert len(set(upper)) == len(upper), "no neuron holds two edits"


def test_no_neuron_that_holds_an_earlier_edit_is_taken_and_a_full_mlp_is_passed_over(made: Made) -> None:
    alone = made.joint(REQUESTS[0])
    alone.make(made.put)
    first = made.edits[0]
    previous = PreviousEdits([REQUESTS[0]], {first.neurons.block: first.indices})
    made.joint(*REQUESTS[1:], previous=previous).make(made.put)
    assert {number: edit.neurons.block for number, edit in made.edits.items()} == {0: 1, 1: 2}
    assert not set(first.indices) & set(made.edits[1].indices)
    assert made.calls[0] == ("read", 2, 0)
    assert made.calls[2] == ("read", 1, 3)


def test_whatever_put_raises_ends_it_and_nothing_stays_silent(made: Made) -> None:
    def refuse(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        made.joint(*REQUESTS).make(refuse)
    assert not any(module._forward_pre_hooks for module in made.model.modules())
    assert all(tensor.equal(before[name]) for name, tensor in made.model.state_dict().items())
