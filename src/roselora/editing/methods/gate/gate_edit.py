"""A trained edit of neurons, and how a batch of them is made in one MLP, by either method."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from roselora.delta.layer_kinds import layer_factors
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing.methods.gate.edited_mlp import EditedMlp
from roselora.editing.methods.gate.gate_fitting import fit_gates
from roselora.editing.methods.gate.reference_statistics import ReferenceStatistics
from roselora.editing.methods.gate.value_training import train_values
from roselora.editing.methods.margin_training import OnStep
from roselora.editing.methods.rose.added_rows import on_own_rows
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.models.inference import frozen
from roselora.models.mlp_neurons import Neurons, weight_matrix

BATCH = 16
"""How many requests are trained in one batch; more are not faster."""

NO_NEURONS_WAY_OUT = "undo an edit that you no longer need, or let edits go to more blocks (lowest_depth)"
"""What helps where all of a model's neurons hold edits."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class NeuronEdit:
    """A trained edit that is in no model yet.

    Attributes:
        neurons: the MLP that it is for.
        indices: its k neurons.
        gate: (k, width) rows of the layer of gates, or None in a plain MLP.
        up: (k, width) rows of the other layer that reads.
        columns: (width, k) what they write.
        steps: optimizer steps taken.
        reached: whether the target leads by the margin after every prompt.
        adds: whether rows and columns are added to the neurons' own, as RoseLoRA's are, or take their place.
    """

    neurons: Neurons
    indices: list[int]
    gate: Tensor | None
    up: Tensor
    columns: Tensor
    steps: int
    reached: bool
    adds: bool

    def delta(self, model: PreTrainedModel, base_sha256: Callable[[str], str]) -> SparseDelta:
        """The update that turns the neurons of the model as it is now into these.

        Args:
            base_sha256: from a weight's name to the hash of its base, the weight without any edit.
        """
        rows: dict[str, dict[int, Tensor]] = {}  # by layer, because gate and up are one layer in some models
        for reader, new in ((self.neurons.up, self.up), (self.neurons.gate, self.gate)):
            if reader is not None and new is not None:
                at = (reader.offset + index for index in self.indices)
                rows.setdefault(reader.layer, {}).update(zip(at, new, strict=True))
        factors = [self._row_factors(model, layer, own, base_sha256) for layer, own in rows.items()]
        return SparseDelta((*factors, self._column_factors(model, base_sha256)))

    def _row_factors(
        self, model: PreTrainedModel, layer: str, rows: dict[int, Tensor], base_sha256: Callable[[str], str]
    ) -> SparseFactors:
        """B (outputs, k) is one-hot and picks the rows, A (k, inputs) is how they change."""
        module = model.get_submodule(layer)
        weight, at = weight_matrix(module), torch.tensor(list(rows))
        a = torch.stack(list(rows.values())).to(weight.device)
        a = a if self.adds else a - weight[at].float()
        b = functional.one_hot(at, len(weight)).T.to(a)
        return layer_factors(layer, module, a, b, 1.0, base_sha256(f"{layer}.weight"))

    def _column_factors(self, model: PreTrainedModel, base_sha256: Callable[[str], str]) -> SparseFactors:
        """A (k, inputs) is one-hot and picks the columns, B (outputs, k) is how they change."""
        layer = self.neurons.writer
        module = model.get_submodule(layer)
        weight, at = weight_matrix(module), torch.tensor(self.indices)
        b = self.columns.to(weight.device)
        b = b if self.adds else b - weight[:, at].float()
        a = functional.one_hot(at, weight.shape[1]).to(b)
        return layer_factors(layer, module, a, b, 1.0, base_sha256(f"{layer}.weight"))


def in_batches(items: Sequence[_Item]) -> list[Sequence[_Item]]:
    """Requests, or what stands for them, in batches that are trained side by side."""
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def least_important(
    statistics: ReferenceStatistics, taken: Collection[int], undone: Collection[int] = (), nearby: Tensor | None = None
) -> list[int]:
    """The neurons that hold no edits, in the order in which edits replace them.

    Args:
        taken: neurons that hold edits.
        undone: neurons that held edits; they come last, in the same order, but those that add nothing to the output
            still come before all that do.
        nearby: (neurons,), their importance at the neighbours of an edit, which then counts as much as that in ordinary
            text: neurons that neither needs come first.
    """
    held, importance = set(taken), statistics.importance / statistics.importance.mean()
    if nearby is not None:
        importance = importance + nearby.to(importance) / nearby.mean().to(importance)
    # Of neurons that are alike those with the higher indices come first: a wider model's own are at the end.
    order = (len(importance) - 1 - importance.flip(0).argsort(stable=True)).tolist()
    spared, adding = set(undone), (importance > 0).tolist()
    return sorted((n for n in order if n not in held), key=lambda n: (adding[n], n in spared))  # a stable sort


def train_neuron_edits(
    mlp: EditedMlp,
    requests: Sequence[EditRequest],
    taken: Collection[int] = (),
    on_step: OnStep | None = None,
    *,
    undone: Collection[int] = (),
    planned: bool = False,
) -> list[NeuronEdit]:
    """Train the neurons of each request, all requests side by side; afterwards the model is as before.

    The requests share every forward pass and nothing else: up to rounding, each edit is what it would be by itself if
    the neurons of those before it were taken.

    Args:
        taken: neurons that must not be replaced, because they hold other edits.
        undone: neurons to be replaced only where there are no others, because undone edits held them.
        planned: replace neurons in the order of their importance in ordinary text alone, which is known beforehand; by
            default their importance at the request's negatives counts as much.

    Raises:
        ConfigError: a text has no tokens.
        EditError: there are not enough neurons.
        NonFiniteError: the model's logits are not finite.
    """
    held, adds = set(taken), isinstance(mlp.settings, EditSettings)
    with frozen(mlp.model):
        cache, fitted = fit_gates(mlp, requests)
        places = []
        for fit in fitted:
            needed = len(fit.neurons.up)
            free = least_important(mlp.statistics, held, undone, None if planned else fit.nearby)
            if needed > len(free):
                raise EditError(
                    f"Block {mlp.neurons.block} has no {needed} neurons left for {fit.request.prompt!r}; "
                    f"{NO_NEURONS_WAY_OUT}."
                )
            places.append(free[:needed])
            held.update(free[:needed])
        if adds:
            fitted = [on_own_rows(mlp, fit, indices) for fit, indices in zip(fitted, places, strict=True)]
        trained = train_values(mlp, cache, fitted, on_step)
    edits = []
    for fit, indices, (values, stopped) in zip(fitted, places, trained, strict=True):
        gate, up, columns = fit.neurons.gate, fit.neurons.up, fit.neurons.gains * values.T
        edits.append(NeuronEdit(mlp.neurons, indices, gate, up, columns, stopped.steps, stopped.reached, adds))
    return edits
