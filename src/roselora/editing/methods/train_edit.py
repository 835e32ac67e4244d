"""Train one edit by either method, as a delta with what there is to say about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.adapter.density_check import require_sparse
from roselora.adapter.factors import FactorPair, as_matrix
from roselora.delta.layer_kinds import layer_factors
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.methods.gate.gate_edit import NeuronEdit
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.joint_edits import JointEdits
from roselora.editing.methods.gate.layer_choice import editable_mlps, edits_neurons
from roselora.editing.methods.margin_training import OnStep
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.rose.factor_training import train_factors
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.request import EditRequest
from roselora.editing.store.provenance import read_provenance, without_removed_settings
from roselora.errors import EditError, UnsupportedError

Settings = EditSettings | GateSettings


@dataclass(frozen=True)
class TrainedEdit:
    """An edit that is in no model yet, and with which every prompt of the request gives the target, by the margin.

    Attributes:
        delta: what it adds to the base weights.
        steps: optimizer steps taken.
        about: JSON for the edit's provenance: method, update (entries_changed, entries, sparsity, sparsity_bound)
            and, if there are any, the neurons (of each block: block, indices).
    """

    delta: SparseDelta
    steps: int
    about: dict[str, Any]


def default_settings(model: PreTrainedModel) -> Settings:
    """Those of `gate`, if the model's MLPs have neurons that can be replaced; else those of `rose`."""
    settings = GateSettings()
    try:
        editable_mlps(model, settings)
    except UnsupportedError:
        return EditSettings()
    return settings


def settings_of(provenance: Mapping[str, Any]) -> Settings | None:
    """How a stored edit was trained, or None if its provenance does not hold settings that this version knows."""
    parts = read_provenance(provenance)
    by_factors = parts.neurons is None or parts.method == "rose"
    method, kind = ("rose", EditSettings) if by_factors else ("gate", GateSettings)
    settings = without_removed_settings(method, parts.settings or {})
    if settings.keys() != {entry.name for entry in fields(kind)}:
        return None
    try:
        return TypeAdapter[Settings](kind).validate_python(settings)
    except ValidationError:  # which is also what a ConfigError of the settings themselves becomes
        return None


def train_edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    overlay: Overlay,
    request: EditRequest,
    settings: Settings,
    previous: PreviousEdits,
    on_step: OnStep | None = None,
) -> TrainedEdit:
    """Train one request on the model as it is; afterwards the model is as before.

    Raises:
        ConfigError: the model cannot be edited with these settings.
        EditError: the target was not reached, or no neurons are left.
        NonFiniteError: the model's logits are not finite.
        UnsupportedError: the model's MLPs have no neurons that could be replaced.
    """
    if edits_neurons(model, settings):
        made: list[NeuronEdit] = []
        JointEdits(model, tokenizer, [request], settings, previous).make(lambda _, own: made.extend(own), on_step)
        if not made[0].reached:
            raise _not_learned(request, settings, "the learning rate")
        return trained_neuron_edit(model, overlay, made[0], settings)
    assert isinstance(settings, EditSettings)
    pairs, stopped = train_factors(model, tokenizer, request, settings, previous.prompts, on_step)
    if not stopped.reached:
        raise _not_learned(request, settings, "the learning rate, the rank or the density")
    counts = require_sparse("edit", pairs, settings.density)
    update = {
        "entries_changed": counts.update_nonzeros,
        "entries": counts.entries,
        "sparsity": counts.sparsity,
        "sparsity_bound": counts.sparsity_bound,
    }
    about = {"method": "rose", "update": update}
    return TrainedEdit(factors_delta(model, overlay, pairs), stopped.steps, about)


def _not_learned(request: EditRequest, settings: Settings, helpful: str) -> EditError:
    return EditError(
        f"The model did not learn to answer {request.target!r} to {request.prompt!r} within {settings.max_steps} "
        f"steps, so nothing was changed; allow more steps, or raise {helpful}."
    )


def factors_delta(model: nn.Module, overlay: Overlay, pairs: Sequence[FactorPair]) -> SparseDelta:
    """Trained factors as a delta of the base weights under the overlay."""
    return SparseDelta(
        tuple(
            layer_factors(
                pair.name,
                model.get_submodule(pair.name),
                as_matrix(pair.a),
                as_matrix(pair.b),
                pair.scale,
                overlay.base_sha256(f"{pair.name}.weight"),
            )
            for pair in pairs
        )
    )


def trained_neuron_edit(model: PreTrainedModel, overlay: Overlay, edit: NeuronEdit, settings: Settings) -> TrainedEdit:
    """An edit of neurons as a delta of the base weights under the overlay.

    Raises:
        SparsityError: a factor of RoseLoRA's is not as sparse as its settings ask.
    """
    delta = edit.delta(model, overlay.base_sha256)
    if isinstance(settings, EditSettings):
        require_sparse("edit", _pairs(delta), settings.density)
    method = "rose" if isinstance(settings, EditSettings) else "gate"
    where = {"block": edit.neurons.block, "indices": edit.indices}
    return TrainedEdit(delta, edit.steps, {"method": method, "update": size_of_update(delta), "neurons": [where]})


def size_of_update(delta: SparseDelta) -> dict[str, int | float]:
    """How many entries of the touched matrices a delta changes, and how sparse it is guaranteed to be.

    Returns:
        As `store.provenance.UpdateSize` has it.
    """
    entries = sum(factors.shape[0] * factors.shape[1] for factors in delta.weights)
    changed = sum(len(factors.expand()[0]) for factors in delta.weights)
    return {
        "entries_changed": changed,
        "entries": entries,
        "sparsity": 1 - changed / entries,
        "sparsity_bound": 1 - sum(factors.entries_at_most for factors in delta.weights) / entries,
    }


def _pairs(delta: SparseDelta) -> Iterator[FactorPair]:
    """A delta's factors as those of an adapter."""
    for factors in delta.weights:
        a, b = (nn.Parameter(factor, False) for factor in factors.to_factors())
        yield FactorPair(factors.name.removesuffix(".weight"), a, b, factors.scale)
