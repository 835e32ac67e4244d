"""What an MLP reads where other edits are said."""

from collections.abc import Callable

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from roselora.editing.neuron_held import read_held
from roselora.editing.neuron_places import places_of
from roselora.editing.neuron_settings import NeuronSettings
from roselora.editing.request import EditRequest
from roselora.models.neurons import entering

FRANCE = EditRequest("The capital of France is", "Rome", "France")
GOLD = EditRequest("The symbol of gold is", "Fe in Rome", "gold")


def test_each_token_of_an_answer_is_read_and_the_prompts_last(
    tiny_model: Callable[..., PreTrainedModel], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny_model()
    place = places_of(model, NeuronSettings())[0]
    held = read_held(model, tiny_tokenizer, [FRANCE, GOLD], place)
    expected = []
    for request in (FRANCE, GOLD):
        ids = tiny_tokenizer(f"{request.prompt} {request.target}", return_tensors="pt").input_ids
        start = len(tiny_tokenizer(request.prompt).input_ids) - 1
        with entering(model, place) as read, torch.no_grad():
            model(input_ids=ids)
        expected.append(read[0][0, start:])
    torch.testing.assert_close(held.states, torch.cat(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(held.of_others(GOLD), expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(held.of_others(FRANCE), expected[1], rtol=1e-4, atol=1e-5)
