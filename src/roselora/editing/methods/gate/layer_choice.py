"""Which MLP an edit goes to: the preferred one, or a neighbour when that one holds many edits already."""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from roselora.editing.methods.neuron_settings import NeuronSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.errors import UnsupportedError
from roselora.models.architecture import block_at
from roselora.models.mlp_neurons import Neurons, neurons

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


def choose_mlp(mlps: Sequence[Neurons], taken: Mapping[int, int], needed: int) -> Neurons:
    """The first MLP with ``needed`` free neurons that is filled less than the others, in steps of `LEVEL`.

    The least important neurons are replaced first, and the last ones of an MLP are far more important than the first
    ones of its neighbour. If no MLP has enough free neurons, it is the one with the most.

    Args:
        taken: by block, how many neurons hold edits.
    """
    mlps = [mlp for mlp in mlps if free_neurons(mlp, taken) >= needed] or mlps
    filled = [taken.get(mlp.block, 0) / mlp.count for mlp in mlps]
    for level in range(1, round(1 / LEVEL)):
        for mlp, share in zip(mlps, filled, strict=True):
            if share < level * LEVEL:
                return mlp
    return max(mlps, key=lambda mlp: free_neurons(mlp, taken))


def free_neurons(mlp: Neurons, taken: Mapping[int, int]) -> int:
    """How many neurons of an MLP hold no edit."""
    return mlp.count - taken.get(mlp.block, 0)
