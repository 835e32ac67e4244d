"""Which MLP an edit goes to: the preferred one, or a neighbour when that one holds many edits already."""

import copy
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor
from transformers import PreTrainedModel

from roselora.editing.methods.neuron_settings import NeuronSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.errors import UnsupportedError
from roselora.models.architecture import block_at
from roselora.models.mlp_neurons import Neurons, neurons, weight_matrix

LEVEL = 0.1
"""Up to what share of its neurons an MLP is filled before the next one is; then all are filled to twice that, ..."""


def editable_mlps(model: PreTrainedModel, settings: NeuronSettings) -> list[Neurons]:
    """The MLPs whose neurons edits replace, in the order in which they are filled.

    The preferred one comes first, then those below it.
    The first block's is never among them: there is no cached prefix below it.

    Raises:
        UnsupportedError: the preferred one has no neurons that could be replaced; others without are left out.
    """
    preferred = block_at(model, settings.depth)
    if preferred == 0:
        raise UnsupportedError("Edits of neurons need a block below theirs; choose another depth, or --method rose.")
    lowest = max(1, block_at(model, settings.lowest_depth))
    found = [neurons(model, preferred)]
    for block in range(preferred - 1, lowest - 1, -1):
        try:
            found.append(neurons(model, block))
        except UnsupportedError:
            continue
    return found


def edits_neurons(model: PreTrainedModel, settings: NeuronSettings) -> bool:
    """Whether an edit with these settings goes into neurons.

    RoseLoRA's does not where the settings name modules, or where the model's MLPs have no neurons for it: then its
    factors are trained as in the paper.
    """
    if not isinstance(settings, EditSettings):
        return True
    try:
        return settings.target_modules is None and bool(editable_mlps(model, settings))
    except UnsupportedError:
        return False


class FreeNeurons:
    """How many neurons of each MLP hold no edits, as edits take them.

    Args:
        model: with its present edits.
        mlps: in the order in which they are filled.
        taken: by block, the neurons that hold edits.
    """

    def __init__(self, model: PreTrainedModel, mlps: Sequence[Neurons], taken: Mapping[int, Collection[int]]) -> None:
        self._mlps = mlps
        self._taken = {mlp.block: len(set(taken.get(mlp.block, ()))) for mlp in mlps}
        self._zero = {mlp.block: _zero_columns(weight_matrix(model.get_submodule(mlp.writer))) for mlp in mlps}

    def count(self, mlp: Neurons) -> int:
        """How many neurons of an MLP hold no edit."""
        return mlp.count - self._taken[mlp.block]

    @property
    def most(self) -> int:
        """How many neurons of the MLP that has the most of them hold no edit."""
        return max(self.count(mlp) for mlp in self._mlps)

    def copy(self) -> "FreeNeurons":
        """The same counts, which can be taken from without a change here."""
        other = copy.copy(self)
        other._taken, other._zero = dict(self._taken), dict(self._zero)
        return other

    def take(self, needed: int) -> Neurons:
        """Take neurons for an edit, of one MLP, which is returned; if none has enough, of the one that has the most.

        While an MLP has enough neurons that write zeros, as a wider model's do, its edits cost nothing, and the first
        such one is taken. Then it is the first that is filled less than the others, in steps of `LEVEL`: the least
        important neurons are replaced first, and the last ones of an MLP are far more important than the first ones of
        its neighbour.
        """
        mlp = self._choose(needed)
        self._taken[mlp.block] += needed
        self._zero[mlp.block] = max(0, self._zero[mlp.block] - needed)
        return mlp

    def _choose(self, needed: int) -> Neurons:
        for mlp in self._mlps:
            if self._zero[mlp.block] >= needed:
                return mlp
        mlps = [mlp for mlp in self._mlps if self.count(mlp) >= needed] or self._mlps
        filled = [self._taken[mlp.block] / mlp.count for mlp in mlps]
        for level in range(1, round(1 / LEVEL)):
            for mlp, share in zip(mlps, filled, strict=True):
                if share < level * LEVEL:
                    return mlp
        return max(mlps, key=self.count)


def _zero_columns(matrix: Tensor) -> int:
    """How many columns are zero; only those that begin with a zero are read whole."""
    begin_so = (matrix[0] == 0).nonzero().flatten()
    return int((matrix[:, begin_so] == 0).all(0).sum())
