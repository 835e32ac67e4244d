"""Changes of a model's weights that can be undone byte for byte, even after later calls have written to them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta


class Snapshot:
    """The values of some weights before a method changes them, kept whole, since dense methods touch every entry."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights = list(weights)
        self._before = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def restore(self) -> None:
        """Put every byte back."""
        for weight, before in zip(self._weights, self._before, strict=True):
            weight.copy_(before)

    def entries(self) -> int:
        """How many entries differ from what they were."""
        pairs = zip(self._weights, self._before, strict=True)
        return sum(int((weight.detach() != before).sum()) for weight, before in pairs)


class Deltas:
    """The deltas that one call adds to a model's weights, and the values that it found at the entries they touch.

    An overlay can remove its deltas by itself, but refuses where a later call's overlay has written since; `restore`
    does not.

    Attributes:
        overlay: holds the deltas; its bases are the weights as the call found them.
    """

    def __init__(self, model: nn.Module, overlay: Overlay | None = None) -> None:
        self._model = model
        self._found: dict[str, tuple[Tensor, Tensor]] = {}  # by weight: flat indices, and the values found there
        self.overlay = Overlay(model) if overlay is None else overlay

    def apply(self, delta: SparseDelta) -> None:
        """Add one more delta to the weights.

        Raises:
            NonFiniteError: a sum is not finite; the weights are as they were.
        """
        self.note(delta)
        self.overlay.apply(str(len(self.overlay.active)), delta)

    def note(self, delta: SparseDelta) -> None:
        """Remember the values at the entries that a delta is about to change."""
        for factors in delta.weights:
            index = factors.expand()[0]
            known, values = self._found.get(factors.name, (index[:0], self._values(factors.name, index[:0])))
            new = index[~torch.isin(index, known)]
            self._found[factors.name] = torch.cat([known, new]), torch.cat([values, self._values(factors.name, new)])

    def entries(self) -> int:
        """How many entries have another value now."""
        return sum(int((self._values(name, index) != found).sum()) for name, (index, found) in self._found.items())

    @torch.no_grad()
    def restore(self) -> None:
        """Put every byte back."""
        for name, (index, found) in self._found.items():
            flat = self._model.get_parameter(name).view(-1)
            flat.index_copy_(0, index.to(flat.device), found.to(flat.device))

    @torch.no_grad()
    def _values(self, name: str, index: Tensor) -> Tensor:
        flat = self._model.get_parameter(name).view(-1)
        return flat.index_select(0, index.to(flat.device)).cpu()


_Change = TypeVar("_Change", Snapshot, Deltas)


@contextmanager
def undone_on_error(change: _Change) -> Iterator[_Change]:
    """Let weights be changed inside; if the block raises, they are restored."""
    try:
        yield change
    except BaseException:
        change.restore()
        raise
