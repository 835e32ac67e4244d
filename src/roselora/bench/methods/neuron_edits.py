"""Edits of neurons as the editor makes them, by either method: for each request some neurons of one late MLP."""

from collections import Counter
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import Applied, EditCall
from roselora.bench.methods.edits_in_memory import EditsInMemory
from roselora.bench.methods.weight_changes import undone_on_error
from roselora.editing.edit_repair import repair
from roselora.editing.feasibility import require_feasible
from roselora.editing.many_edits import ManyEdits
from roselora.editing.methods.gate.layer_choice import editable_mlps, edits_neurons
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.train_edit import Settings
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.provenance import read_provenance
from roselora.errors import ConfigError, EditError, RoseLoraError
from roselora.models.inference import Progress

NEURONS = "neurons"
"""The name in a call's memory of the neurons that hold edits, its own and those of earlier calls: (n, 2) int64, \
block and index."""


def edit_neurons(call: EditCall[Settings]) -> Applied:
    """Edit as `Editor.edit_many` and then `Editor.repair` do.

    A request that the editor would refuse, or whose target it does not reach, leaves no edit; the others are made. With
    a folder, a call that was stopped goes on behind its last edit, and tries what had failed again.

    Raises:
        EditError, NonFiniteError: no edit was made; the message is the first request's.
        UnsupportedError: the model's MLPs have no neurons that gates could replace.
    """
    edits = EditsInMemory(call.model, call.tokenizer, _previous_edits(call.history))
    failures: list[RoseLoraError] = []
    finished = 0

    def finish(*_: object) -> None:
        nonlocal finished
        finished += 1
        if call.on_progress is not None:
            call.on_progress(finished, len(call.requests))

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
        if call.folder is not None:
            edits.keep_in(call.folder)
        made_before = list(edits.edits)
        left = _not_made(feasible, made_before)
        finished += len(feasible) - len(left)
        if not ManyEdits(edits, left, call.config, finish, fail).make() and not made_before:
            raise failures[0] if len(failures) == 1 else EditError(f"No request was edited. The first: {failures[0]}")
        repair(edits, lambda _: call.config)
    neurons = edits.previous_edits().neurons
    taken = torch.tensor([(block, index) for block, indices in neurons.items() for index in sorted(indices)])
    steps = sum(edit.provenance["training"]["steps"] for edit in edits.edits)
    earlier = sum(edit.provenance["training"]["seconds"] for edit in made_before)
    entries = edits.deltas.entries()
    return Applied(tuple(call.requests), edits.deltas.restore, entries, steps, {NEURONS: taken}, earlier)


def _not_made(requests: Sequence[EditRequest], edits: Sequence[StoredEdit]) -> list[EditRequest]:
    """The requests that no edit was made of; what replaced an edit was made of that one's."""
    made = Counter(_fact(edit.request) for edit in edits if read_provenance(edit.provenance).repairs is None)
    left = []
    for request in requests:
        if made[_fact(request)]:
            made[_fact(request)] -= 1
        else:
            left.append(request)
    return left


def _fact(request: EditRequest) -> tuple[str, str, bool | None]:
    """What tells requests apart; consequences that could not be made are missing in an edit's."""
    return request.prompt, request.target, request.space


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
