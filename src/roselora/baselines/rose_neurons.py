"""RoseLoRA's editing by neurons, ours: each request some neurons of one late MLP."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.baselines.applied import Applied, applying, asked_before
from roselora.editing.neuron_edits import SIDE_BY_SIDE, edit_neurons
from roselora.editing.neuron_places import places_of, with_room
from roselora.editing.neuron_settings import NeuronSettings
from roselora.editing.ordinary import ordinary_text
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.calling import Progress

TAKEN = "neurons"
"""Under what name a call's memory has the neurons that hold edits, its own and those of earlier calls: (n, 2) int64, \
block and index."""


def rose_neurons(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: NeuronSettings,
    history: Sequence[Applied] = (),
) -> Applied:
    """Replace some neurons a request, whether or not its target was reached; no two edits share one.

    Raises:
        ConfigError: no requests, or one that cannot be meant.
        EditError: there are not enough neurons; the model is as it was.
        UnsupportedError: the model's MLPs have no neurons that could be replaced.
    """
    if not requests:
        raise ConfigError("There are no requests to edit by; give at least one.")
    places = places_of(model, config)
    texts = ordinary_text(model, tokenizer, [place.block for place in places])
    taken: dict[int, list[int]] = {}
    for block, index in history[-1].memory[TAKEN].tolist() if history else ():
        taken.setdefault(block, []).append(index)
    held, steps = asked_before(history), 0
    with applying(model) as deltas:
        for start in range(0, len(requests), SIDE_BY_SIDE):
            part, place = requests[start : start + SIDE_BY_SIDE], with_room(places, taken)
            own = taken.setdefault(place.block, [])
            edits = edit_neurons(model, tokenizer, part, config, place, texts[place.block], taken=own, held=held)
            for edit in edits:
                deltas.apply(edit.delta(model, deltas.overlay.base_sha256))
                own += edit.indices
                steps += edit.steps
            held += [prompt for request in part for prompt in request.prompts]
    memory = torch.tensor([(block, index) for block, indices in taken.items() for index in indices])
    return Applied(tuple(requests), deltas.restore, deltas.entries(), steps, {TAKEN: memory})


def read_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: NeuronSettings,
    on_progress: Progress | None = None,
) -> None:
    """Measure what the MLPs do in ordinary text, which is the model's own; kept for every later run."""
    ordinary_text(model, tokenizer, [place.block for place in places_of(model, config)], on_progress=on_progress)
