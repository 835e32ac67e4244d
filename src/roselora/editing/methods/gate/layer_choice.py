"""Whose neurons an edit replaces: those of one MLP, and of its neighbours when that one holds many edits already."""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.errors import UnsupportedError
from roselora.models.architecture import block_at
from roselora.models.mlp_neurons import Neurons, neurons

LEVEL = 0.1
"""Up to what share of its neurons an MLP is filled before the next one is; then all are filled to twice that, ..."""


def editable_mlps(model: PreTrainedModel, settings: GateSettings) -> list[Neurons]:
    """The MLPs whose neurons edits replace, in the order in which they are filled.

    First the preferred one, then those above it, of which the gates of edits below notice nothing, then those below.
    Never the first block's, for what enters it is not kept.

    Raises:
        UnsupportedError: the preferred one has no neurons that could be replaced; others without are passed over.
    """
    preferred = block_at(model, settings.depth)
    if preferred == 0:
        raise UnsupportedError("Gated neuron edits need a block below theirs; choose another depth, or --method rose.")
    lowest, highest = max(1, block_at(model, settings.lowest_depth)), block_at(model, settings.highest_depth)
    found = [neurons(model, preferred)]
    for block in (*range(preferred + 1, highest + 1), *range(preferred - 1, lowest - 1, -1)):
        try:
            found.append(neurons(model, block))
        except UnsupportedError:
            continue
    return found


def choose_mlp(places: Sequence[Neurons], taken: Mapping[int, int], needed: int) -> Neurons:
    """The first of the MLPs that is not filled to the level at which another has room; if none has, the emptiest.

    The neurons that are missed least go first, and the last ones of an MLP are missed far more than the first ones of
    its neighbour.

    Args:
        taken: by block, how many neurons hold edits.
        needed: how many neurons it must have left, if any has so many.
    """
    places = [place for place in places if free_neurons(place, taken) >= needed] or places
    filled = [taken.get(place.block, 0) / place.count for place in places]
    for level in range(1, round(1 / LEVEL)):
        for place, share in zip(places, filled, strict=True):
            if share < level * LEVEL:
                return place
    return max(places, key=lambda place: free_neurons(place, taken))


def free_neurons(place: Neurons, taken: Mapping[int, int]) -> int:
    """How many neurons of an MLP hold no edit."""
    return place.count - taken.get(place.block, 0)
