"""The MLP that edits go into, with what their gates are fitted against and their values are trained in."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.gate.other_edits import OtherEditInputs, read_other_edits
from roselora.editing.methods.gate.reference_statistics import ReferenceStatistics
from roselora.editing.methods.gate.ridge_gate import Gate, GateInputs, OrdinaryFit, fit_gate
from roselora.editing.methods.neuron_settings import NeuronSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.rose.sparse_rows import READING, sparse_gate
from roselora.editing.request import EditRequest
from roselora.models.mlp_neurons import Neurons, neuron_activity


@dataclass(frozen=True)
class EditedMlp:
    """One MLP of a model, into which a batch of gated edits goes.

    Attributes:
        neurons: where the MLP is, and how its neurons read and write.
        statistics: what it does in ordinary text.
        other_edits: what it reads where other edits are asked for, at which new neurons must be inactive.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: NeuronSettings
    neurons: Neurons
    statistics: ReferenceStatistics
    other_edits: OtherEditInputs

    @classmethod
    def read(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: NeuronSettings,
        neurons: Neurons,
        statistics: ReferenceStatistics,
        others: Sequence[EditRequest] = (),
        subjects: Collection[str] = (),
    ) -> "EditedMlp":
        """The MLP in the model as it is now, with what it reads where other edits are asked for.

        Args:
            subjects: see `read_other_edits`.
        """
        inputs = read_other_edits(model, tokenizer, others, neurons, subjects)
        return cls(model, tokenizer, settings, neurons, statistics, inputs)

    @cached_property
    def ordinary(self) -> OrdinaryFit:
        """The moments of ordinary text, factored once for all gates."""
        second, mean = (moment.to(self.model.device) for moment in (self.statistics.second, self.statistics.mean))
        return OrdinaryFit.from_moments(second, mean, self.settings.ridge)

    def fitted(self, inputs: Sequence[GateInputs]) -> "GatedNeurons":
        """One neuron for each gate, which is fitted to its inputs; RoseLoRA's rows keep few entries."""
        own = self.settings
        gates = [fit_gate(self.ordinary, each, threshold=own.threshold, full=own.full) for each in inputs]
        if not isinstance(own, EditSettings):
            return GatedNeurons.of(gates, self.neurons)
        pairs = zip(gates, inputs, strict=True)
        gates = [sparse_gate(gate, self.statistics, each, own) for gate, each in pairs]
        return GatedNeurons.of(gates, self.neurons, READING)


@dataclass(frozen=True)
class GatedNeurons:
    """The reading side of k new neurons.

    Attributes:
        gate: (k, width) their rows in the layer of gates, or None in a plain MLP.
        up: (k, width) their rows in the other layer that reads.
        gains: (k,) the factors of their columns; 1 where ``up`` holds them already.
    """

    gate: Tensor | None
    up: Tensor
    gains: Tensor

    @classmethod
    def of(cls, gates: list[Gate], neurons: Neurons, reading: float | None = None) -> "GatedNeurons":
        """One neuron a gate, for an MLP of this kind.

        Args:
            reading: what the rows of ``up`` read at the edited prompts, if that is not the gain.
        """
        if neurons.gate is None:
            each_row, each_gain = zip(*(gate.row() for gate in gates), strict=True)
            return cls(None, torch.stack(each_row), torch.tensor(each_gain).to(each_row[0]))
        rows, others, each_gain = zip(*(gate.gated_rows() for gate in gates), strict=True)
        gains = torch.tensor(each_gain).to(rows[0])
        up = gains if reading is None else torch.full_like(gains, reading)
        return cls(torch.stack(rows), up[:, None] * torch.stack(others), gains / up)

    def activity(self, neurons: Neurons, inputs: Tensor) -> Tensor:
        """How active they are at inputs (..., width): (..., k)."""
        return neuron_activity(neurons, self.gate, self.up, inputs) * self.gains
