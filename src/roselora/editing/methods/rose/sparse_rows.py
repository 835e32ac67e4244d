"""Sparse rows of A: a gate's direction from its most important entries alone."""

import torch
from torch import Tensor

from roselora.core.pruning import kept_count
from roselora.editing.methods.gate.reference_statistics import ReferenceStatistics
from roselora.editing.methods.gate.ridge_gate import Gate, GateInputs, OrdinaryFit, fit_gate
from roselora.editing.methods.rose.rose_settings import EditSettings

READING = 4.0
"""What a row of the up layer adds to what its neuron reads at the gate's top: enough to drown the neuron's own."""


def sparse_gate(gate: Gate, statistics: ReferenceStatistics, inputs: GateInputs, settings: EditSettings) -> Gate:
    """The gate fitted anew on the entries of its direction w that matter most by the paper's sensitivity.

    At the optimum of a ridge regression the gradient of the data's loss L is that of the penalty, turned round, so that
    Eq. 3 has a closed form: |w · ∂L/∂w| = λ w². The entries are pruned once, for there is no path of steps to smooth
    over, and pruning them gradually gave the same gates.

    Args:
        gate: fitted on all entries, (d,).
        statistics: what the MLP reads in ordinary text.
    """
    width = len(gate.direction)
    kept = gate.direction.square().topk(kept_count(settings.density, width)).indices.sort().values
    moments = statistics.second.to(kept.device), statistics.mean.to(kept.device)
    ordinary = OrdinaryFit.from_moments(moments[0][kept][:, kept], moments[1][kept], settings.ridge)

    def at(states: Tensor) -> Tensor:
        return states[:, kept]

    some = GateInputs(
        at(inputs.prompts),
        at(inputs.rephrasings),
        at(inputs.background),
        [at(group) for group in inputs.negatives],
        at(inputs.answers),
        at(inputs.other_edits),
    )
    found = fit_gate(ordinary, some, threshold=settings.threshold, full=settings.full)

    def whole(entries: Tensor) -> Tensor:
        return torch.zeros(width).to(entries).scatter(0, kept, entries)

    return Gate(whole(found.direction), whole(found.one), found.threshold, found.full, found.top)
