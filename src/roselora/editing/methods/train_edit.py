"""The two ways to train an edit: RoseLoRA's factors in many layers (`rose`), or gated neurons of one (`gate`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.adapter.factors import FactorPair, as_matrix
from roselora.adapter.verify import require_sparse
from roselora.delta.layer_kinds import layer_factors
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.methods.gate.gate_edit import GateEdit
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.joint_edits import JointEdits
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.rose.factor_training import rose_config, train_factors
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.request import EditRequest
from roselora.editing.store.provenance import read_provenance
from roselora.errors import EditError, UnsupportedError

Settings = EditSettings | GateSettings


@dataclass(frozen=True)
class TrainedEdit:
    """An edit in no model yet, with which every prompt of the request gives the target, by the margin.

    Attributes:
        delta: what it adds to the base weights.
        steps: optimizer steps taken.
        about: JSON for the edit's provenance: method, update (entries_changed, entries, sparsity, sparsity_bound)
            and, for neurons, their block and indices.
    """

    delta: SparseDelta
    steps: int
    about: dict[str, Any]


def default_settings(model: PreTrainedModel) -> Settings:
    """Gated neurons, where the model's MLPs have such as can be replaced; else RoseLoRA's factors."""
    settings = GateSettings()
    try:
        editable_mlps(model, settings)
    except UnsupportedError:
        return EditSettings()
    return settings


def settings_of(provenance: Mapping[str, Any]) -> Settings | None:
    """How a stored edit was trained, or None if it does not say so in the words of this version."""
    parts = read_provenance(provenance)
    kind = EditSettings if parts.neurons is None else GateSettings
    if parts.settings is None or parts.settings.keys() != {entry.name for entry in fields(kind)}:
        return None
    try:
        return TypeAdapter[Settings](kind).validate_python(parts.settings)
    except ValidationError:  # which is also what a ConfigError of the settings themselves becomes
        return None


def train_edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    overlay: Overlay,
    request: EditRequest,
    settings: Settings,
    earlier: PreviousEdits,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainedEdit:
    """Train one request on the model as it is, which is given back as it was.

    Raises:
        ConfigError: the model cannot be edited with these settings.
        EditError: the target was not reached, or no neurons are left.
        UnsupportedError: the model's MLPs have no neurons that could be replaced.
    """
    if isinstance(settings, GateSettings):
        made: list[GateEdit] = []
        edits = JointEdits(model, tokenizer, [request], settings, earlier)
        edits.make([0], lambda _, own: made.extend(own), on_step=on_step)
        if not made[0].reached:
            raise _not_learned(request, settings, "the learning rate")
        return described(model, overlay, made[0])
    trained = train_factors(model, tokenizer, request, settings, rose_config(settings, model), earlier.prompts, on_step)
    if not trained.reached:
        raise _not_learned(request, settings, "the learning rate, the rank or the density")
    counts = require_sparse("edit", trained.pairs, settings.density)
    update = {
        "entries_changed": counts.update_nonzeros,
        "entries": counts.entries,
        "sparsity": counts.sparsity,
        "sparsity_bound": counts.sparsity_bound,
    }
    about = {"method": "rose", "update": update}
    return TrainedEdit(factors_delta(model, overlay, trained.pairs), trained.steps, about)


def _not_learned(request: EditRequest, settings: Settings, raised: str) -> EditError:
    return EditError(
        f"The model did not learn to answer {request.target!r} to {request.prompt!r} within {settings.max_steps} "
        f"steps, so nothing was changed; allow more steps, or raise {raised}."
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


def described(model: PreTrainedModel, overlay: Overlay, edit: GateEdit) -> TrainedEdit:
    """A gated neuron edit as a delta of the base weights under the overlay, and what there is to say of it."""
    delta = edit.delta(model, overlay.base_sha256)
    entries = sum(factors.shape[0] * factors.shape[1] for factors in delta.weights)
    changed = sum(len(factors.expand()[0]) for factors in delta.weights)
    update = {
        "entries_changed": changed,
        "entries": entries,
        "sparsity": 1 - changed / entries,
        "sparsity_bound": 1 - sum(factors.entries_at_most for factors in delta.weights) / entries,
    }
    where = {"block": edit.place.block, "indices": edit.indices}
    about = {"method": "gate", "update": update, "neurons": where}
    return TrainedEdit(delta, edit.steps, about)
