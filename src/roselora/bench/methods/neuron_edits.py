"""Edits of neurons as the editor makes them, by either method: for each request some neurons of one late MLP."""

from collections.abc import Sequence
from itertools import count

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import Applied, EditCall
from roselora.bench.methods.edits_in_memory import EditsInMemory
from roselora.bench.methods.weight_changes import undone_on_error
from roselora.editing.contradictions import still_to_edit
from roselora.editing.edit_repair import repair
from roselora.editing.feasibility import require_feasible
from roselora.editing.many_edits import ManyEdits
from roselora.editing.methods.gate.layer_choice import editable_mlps, edits_neurons
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.train_edit import Settings
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, EditError, RoseLoraError
from roselora.models.inference import Progress

NEURONS = "neurons"
"""The name in a call's memory of the neurons that hold edits, its own and those of earlier calls: (n, 2) int64, \
block and index."""


def edit_neurons(call: EditCall[Settings]) -> Applied:
    """Edit as `Editor.edit_many` and then `Editor.repair` do, without a store.

    A request that the editor would refuse, or whose target it does not reach, leaves no edit; the others are made. With
    a folder, a call that was killed goes on behind its last edit.

    Raises:
        EditError, NonFiniteError: no edit was made; the message is the first request's.
        UnsupportedError: the model's MLPs have no neurons that gates could replace.
    """
    edits = EditsInMemory(call.model, call.tokenizer, _previous_edits(call.history), call.folder)
    made_before = [edit for edit in edits.edits if edit.active]
    failures: list[RoseLoraError] = []
    finished = count(1 + len(made_before))

    def finish(*_: object) -> None:
        if call.on_progress is not None:
            call.on_progress(next(finished), len(call.requests))

    def fail(_: EditRequest, error: RoseLoraError) -> None:
        failures.append(error)
        finish()

    feasible = []
    for request in call.requests:
        try:
            require_feasible(call.model, call.tokenizer, request, call.config)
            feasible.append(request)
        except ConfigError as error:
            fail(request, EditError(str(error)))
    with undone_on_error(edits.deltas):
        left = still_to_edit(feasible, made_before) if made_before else feasible
        if not ManyEdits(edits, left, call.config, finish, fail).make() and not made_before:
            raise failures[0] if len(failures) == 1 else EditError(f"No request was edited. The first: {failures[0]}")
        repair(edits, lambda _: call.config)
    neurons = edits.previous_edits().neurons
    taken = torch.tensor([(block, index) for block, indices in neurons.items() for index in sorted(indices)])
    steps = sum(edit.provenance["training"]["steps"] for edit in edits.edits)
    earlier = sum(edit.provenance["training"]["seconds"] for edit in made_before)
    entries = edits.deltas.entries()
    return Applied(tuple(call.requests), edits.deltas.restore, entries, steps, {NEURONS: taken}, earlier)


def _previous_edits(history: Sequence[Applied]) -> PreviousEdits:
    neurons: dict[int, list[int]] = {}
    for block, index in history[-1].memory[NEURONS].tolist() if history else ():
        neurons.setdefault(block, []).append(index)
    return PreviousEdits([request for applied in history for request in applied.requests], neurons)


def measure_reference(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: Settings, on_progress: Progress
) -> None:
    """Measure and cache the MLPs' activity in reference text, which the model generates itself."""
    if not edits_neurons(model, config):
        return
    blocks = [place.block for place in editable_mlps(model, config)]
    reference_statistics(model, tokenizer, blocks, on_progress=on_progress)
