"""An update written into a model's own weights, with the originals of what it touched.

Thin on purpose: one update at a time, taken back in the reverse order of applying.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from roselora.adapter.factors import FactorPair, update_of
from roselora.errors import EditError, NonFiniteError


@dataclass(frozen=True)
class TouchedWeight:
    """The entries of one weight that an update changed.

    Attributes:
        name: the weight's name in the model.
        indices: (n,) int64, into the flattened weight.
        originals: (n,), the values before, in the weight's dtype.
    """

    name: str
    indices: Tensor
    originals: Tensor


@torch.no_grad()
def apply_update(model: nn.Module, pairs: Sequence[FactorPair]) -> tuple[TouchedWeight, ...]:
    """Add every pair's update to its weight: summed in fp32, rounded once to the weight's dtype.

    Raises:
        NonFiniteError: an updated weight would be NaN or infinite; the model is as it was.
        EditError: a weight is quantized, so that its entries cannot be addressed.
    """
    touched: list[TouchedWeight] = []
    try:
        for pair in pairs:
            touched.append(_apply(model, pair))
    except BaseException:
        restore(model, touched)
        raise
    return tuple(touched)


@torch.no_grad()
def restore(model: nn.Module, touched: Sequence[TouchedWeight]) -> None:
    """Put the original values back."""
    for weight in reversed(touched):
        _flat(model, weight.name).index_copy_(0, weight.indices, weight.originals)


def _apply(model: nn.Module, pair: FactorPair) -> TouchedWeight:
    name = f"{pair.name}.weight"
    flat = _flat(model, name)
    update = update_of(pair).flatten()
    indices = update.nonzero()[:, 0]
    originals = flat[indices]
    values = (originals.float() + update[indices]).to(flat.dtype)
    if not bool(values.isfinite().all()):
        raise NonFiniteError(f"The update of {name} is not finite; nothing was changed.")
    flat.index_copy_(0, indices, values)
    return TouchedWeight(name, indices, originals)


def _flat(model: nn.Module, name: str) -> Tensor:
    weight = model.get_parameter(name)
    if not weight.is_floating_point() or not weight.is_contiguous():
        raise EditError(f"{name} is quantized or not stored row by row, so its entries cannot be edited in place.")
    return weight.detach().view(-1)
