"""Facts as neurons: for each token of an answer one neuron that wakes where the fact is asked for and says it.

Neurons of one late MLP that the model misses least are replaced. Their gates (`core.gating`) are fitted, not trained:
they open on the request's prompts and stay shut in ordinary text, where the subject is asked something else, and where
others are asked the same. Trained is only what they write, until the answer leads by a margin. The update is of rank
one a neuron and matrix: one row of the layers by which it reads, one column of the layer by which it writes.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.layer_kinds import layer_factors
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing.methods.gate.gate_fitting import Wiring, wire
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.other_edits import OtherEditInputs
from roselora.editing.methods.gate.reference_statistics import ReferenceStatistics
from roselora.editing.methods.gate.ridge_gate import Ordinary
from roselora.editing.methods.gate.value_training import TrainedColumns, train_columns
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.models.inference import frozen
from roselora.models.mlp_neurons import Neurons, Reader, matrix

SIDE_BY_SIDE = 16
"""How many requests are worth training in one batch."""

NO_NEURONS_WAY_OUT = "undone edits keep theirs, so edit with --method rose, or let edits go to more blocks"
"""What helps where a model's neurons all hold edits: depths are a setting, and so is the method."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class GateEdit:
    """A trained edit, in no model yet.

    Attributes:
        place: the MLP that it is for.
        indices: the k neurons that it replaces.
        gate: (k, width) their rows in the layer of gates, or None for plain neurons.
        up: (k, width) their other rows.
        columns: (width, k) what they write.
        steps: optimizer steps taken.
        reached: whether the target leads by the margin after every prompt.
    """

    place: Neurons
    indices: list[int]
    gate: Tensor | None
    up: Tensor
    columns: Tensor
    steps: int
    reached: bool

    def delta(self, model: PreTrainedModel, base_sha256: Callable[[str], str]) -> SparseDelta:
        """What turns the neurons of the model as it is now into these.

        Args:
            base_sha256: from a weight's name to the hash of its base, the weight without any edit.
        """
        rows: dict[str, list[tuple[int, Tensor]]] = {}
        readers: list[tuple[Reader, Tensor]] = [(self.place.up, self.up)]
        if self.place.gate is not None and self.gate is not None:
            readers.append((self.place.gate, self.gate))
        for reader, new in readers:
            at = [reader.offset + index for index in self.indices]
            rows.setdefault(reader.layer, []).extend(zip(at, new, strict=True))
        factors = [self._rows(model, layer, dict(new), base_sha256) for layer, new in rows.items()]
        return SparseDelta((*factors, self._columns(model, base_sha256)))

    def _rows(
        self, model: PreTrainedModel, layer: str, new: dict[int, Tensor], base_sha256: Callable[[str], str]
    ) -> SparseFactors:
        """B picks the rows, A is how they change."""
        module = model.get_submodule(layer)
        weight, at = matrix(module), torch.tensor(list(new))
        a = torch.stack(list(new.values())).to(weight.device) - weight[at].float()
        b = functional.one_hot(at, len(weight)).T.to(a)
        return layer_factors(layer, module, a, b, 1.0, base_sha256(f"{layer}.weight"))

    def _columns(self, model: PreTrainedModel, base_sha256: Callable[[str], str]) -> SparseFactors:
        """A picks the columns, B is how they change."""
        layer = self.place.writer
        module = model.get_submodule(layer)
        weight, at = matrix(module), torch.tensor(self.indices)
        b = self.columns.to(weight.device) - weight[:, at].float()
        a = functional.one_hot(at, weight.shape[1]).to(b)
        return layer_factors(layer, module, a, b, 1.0, base_sha256(f"{layer}.weight"))


def in_batches(items: Sequence[_Item]) -> list[Sequence[_Item]]:
    """Requests, or what stands for them, in batches that are worth training."""
    return [items[start : start + SIDE_BY_SIDE] for start in range(0, len(items), SIDE_BY_SIDE)]


def least_important(text: ReferenceStatistics, taken: Collection[int]) -> list[int]:
    """The neurons that hold no edits yet, in the order in which edits take them."""
    held = set(taken)
    return [index for index in text.importance.argsort().tolist() if index not in held]


def train_gate_edits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    settings: GateSettings,
    place: Neurons,
    text: ReferenceStatistics,
    *,
    taken: Collection[int] = (),
    held: OtherEditInputs | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> list[GateEdit]:
    """Train each request's own neurons, all requests side by side; the model is given back as it was.

    They share every forward pass and nothing else: each gets, to rounding, what it would get by itself, if the others'
    neurons were taken.

    Args:
        place, text: the MLP whose neurons are replaced, and what it does in ordinary text.
        taken: neurons of it that must not be replaced, for they hold other edits.
        held: what the MLP reads where other edits are said, at which these neurons shall stay silent.
        on_step: called with the step and the largest loss of a request that is still trained.

    Raises:
        ConfigError: a text has no tokens.
        EditError: there are not enough neurons.
        NonFiniteError: the model's logits are not finite.
    """
    with frozen(model):
        ordinary = Ordinary.from_moments(text.second.to(model.device), text.mean.to(model.device), settings.ridge)
        held = OtherEditInputs.none(place, model.device) if held is None else held
        tails, wirings = wire(model, tokenizer, requests, held, settings, place, ordinary)
        trained = train_columns(model, tails, wirings, settings, place, on_step)
    free = least_important(text, taken)
    edits = []
    for wiring, columns in zip(wirings, trained, strict=True):
        needed = len(wiring.units.up)
        if needed > len(free):
            raise EditError(
                f"Block {place.block} has no {needed} neurons left for {wiring.request.prompt!r}; {NO_NEURONS_WAY_OUT}."
            )
        edits.append(_assemble(wiring, columns, place, free[:needed]))
        free = free[needed:]
    return edits


def _assemble(wiring: Wiring, trained: TrainedColumns, place: Neurons, indices: list[int]) -> GateEdit:
    units = wiring.units
    columns = units.gains * trained.columns.T
    return GateEdit(place, indices, units.gate, units.up, columns, trained.steps, trained.reached)
