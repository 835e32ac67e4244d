"""Gated neuron edits, ours: each request some neurons of one late MLP."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.methods.weight_changes import Deltas, undone_on_error
from roselora.editing.edit_answers import broken_requests
from roselora.editing.methods.gate.gate_edit import GateEdit
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.joint_edits import JointEdits
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.models.inference import Progress

TAKEN = "neurons"
"""Under what name a call's memory has the neurons that hold edits, its own and those of earlier calls: (n, 2) int64, \
block and index."""


def gate(call: EditCall[GateSettings]) -> Applied:
    """Replace some neurons a request, whether or not its target was reached; no two edits share one.

    Those of several requests are made together, as `joint_edits` says, and those that do not hold after the last
    are trained anew, once, with all others in the model; each pass counts its progress anew.

    Raises:
        ConfigError: a request is invalid.
        EditError: there are not enough neurons; the model is as it was.
        UnsupportedError: the model's MLPs have no neurons that could be replaced.
    """
    model, tokenizer, requests = call.model, call.tokenizer, call.requests
    edits = JointEdits(model, tokenizer, requests, call.config, _earlier(call.history))
    with undone_on_error(Deltas(model)) as deltas:
        made = _Made(model, edits, deltas)
        edits.make(range(len(requests)), made.put, call.on_progress)
        if len(requests) > 1:
            broken = broken_requests(model, tokenizer, requests)
            made.take_out(broken)
            edits.make(broken, made.put, call.on_progress)
    taken = torch.tensor([(block, index) for block, indices in edits.taken.items() for index in sorted(indices)])
    return Applied(tuple(requests), deltas.restore, deltas.entries(), made.steps, {TAKEN: taken})


class _Made:
    """The edits of one call that are in the model."""

    def __init__(self, model: PreTrainedModel, edits: JointEdits, deltas: Deltas) -> None:
        self.steps = 0
        self._model, self._edits, self._deltas = model, edits, deltas
        self._made: dict[int, tuple[str, GateEdit]] = {}

    def put(self, numbers: Sequence[int], made: Sequence[GateEdit]) -> None:
        for number, edit in zip(numbers, made, strict=True):
            delta = edit.delta(self._model, self._deltas.overlay.base_sha256)
            self._made[number] = self._deltas.apply(delta), edit
            self.steps += edit.steps

    def take_out(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            key, edit = self._made.pop(number)
            self._deltas.overlay.remove(key)
            self._edits.release(edit)


def _earlier(history: Sequence[Applied]) -> PreviousEdits:
    neurons: dict[int, list[int]] = {}
    for block, index in history[-1].memory[TAKEN].tolist() if history else ():
        neurons.setdefault(block, []).append(index)
    return PreviousEdits([request for applied in history for request in applied.requests], neurons)


def read_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: GateSettings,
    on_progress: Progress | None = None,
) -> None:
    """Measure what the MLPs do in ordinary text, which is the model's own; kept for every later run."""
    reference_statistics(
        model, tokenizer, [place.block for place in editable_mlps(model, config)], on_progress=on_progress
    )


METHOD = Method(
    "gate", gate, GateSettings(), "ours, `editing/methods/gate`", requests_per_call=None, read_text=read_text
)
