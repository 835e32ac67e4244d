"""RoseLoRA's factors in training: added to the rows of some neurons, which go on writing what they write."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from roselora.editing.methods.gate.edited_mlp import EditedMlp, GatedNeurons
from roselora.editing.methods.gate.gate_fitting import FittedEdit
from roselora.models.mlp_neurons import NeuronRows, weight_matrix


@torch.no_grad()
def on_own_rows(mlp: EditedMlp, fit: FittedEdit, indices: Sequence[int]) -> FittedEdit:
    """A fitted edit as it acts in k neurons: their own rows blur its gates a little, and their columns write too."""
    own, added = own_rows(mlp, indices), fit.neurons
    gate = None if added.gate is None or own.gate is None else own.gate + added.gate
    activity = GatedNeurons(gate, own.up + added.up, added.gains).activity(mlp.neurons, fit.inputs)
    columns = weight_matrix(mlp.model.get_submodule(mlp.neurons.writer))[:, list(indices)].float().T
    before = own.activity(mlp.neurons, fit.inputs) @ columns
    return replace(fit, activity=activity, columns=columns / added.gains[:, None], before=before)


def own_rows(mlp: EditedMlp, indices: Sequence[int]) -> GatedNeurons:
    """The rows of some of the MLP's neurons."""

    def rows(reader: NeuronRows) -> torch.Tensor:
        weight = weight_matrix(mlp.model.get_submodule(reader.layer))
        return weight[[reader.offset + index for index in indices]].float()

    up, gate = rows(mlp.neurons.up), None if mlp.neurons.gate is None else rows(mlp.neurons.gate)
    return GatedNeurons(gate, up, torch.ones(len(indices)).to(up))
