"""What every editing method gives back: a change that is in the model now, and the way to take it out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress


@dataclass(frozen=True)
class Applied:
    """One call of an editing method, whose change is in the model.

    Attributes:
        requests: what was asked.
        undo: puts back the bytes that the model had before the call. Calls are undone newest first.
        entries: how many entries of the model's weights have another value now.
        steps: optimizer steps taken, 0 where there is no optimizer.
        memory: tensors that the method's next call on this model builds on, such as a codebook, by name.
    """

    requests: tuple[EditRequest, ...]
    undo: Callable[[], None]
    entries: int
    steps: int = 0
    memory: Mapping[str, Tensor] = field(default_factory=dict)


def asked_before(history: Sequence[Applied]) -> list[str]:
    """The prompts of all requests of earlier calls, oldest first."""
    return [prompt for applied in history for request in applied.requests for prompt in request.prompts]


class EditFunction(Protocol):
    """The one function of every method.

    ``history`` holds what this method has applied to this model before, oldest first; ``on_progress`` is told how much
    of the call is done, in whatever the method goes through: requests, parts of them or epochs. On an error the model
    is as it was before the call.
    """

    def __call__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        requests: Sequence[EditRequest],
        config: Any,
        history: Sequence[Applied] = (),
        on_progress: Progress | None = None,
    ) -> Applied:
        """Make the model answer each request's prompt with its target."""
        ...


class Snapshot:
    """The values of some weights before a method changes them; kept whole, for dense methods touch every entry."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self._weights = list(weights)
        self._before = [weight.detach().clone() for weight in weights]

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
    """What one call adds to a model's weights, and the values that it found there: few, where a matrix has many.

    The overlay can take its deltas back by itself, but refuses where a later call's overlay has written meanwhile.

    Attributes:
        overlay: what is applied; its bases are the weights as the call found them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._found: dict[str, tuple[Tensor, Tensor]] = {}
        self._applied = 0
        self.overlay = Overlay(model)

    def apply(self, delta: SparseDelta) -> str:
        """Add one more delta, and return the key by which it can be removed.

        Raises:
            NonFiniteError: a sum is not finite; the weights are as they were.
        """
        self._note(delta)
        self._applied += 1
        key = str(self._applied)
        self.overlay.apply(key, delta)
        return key

    def remove(self, key: str) -> None:
        """Take one delta out again."""
        self.overlay.remove(key)

    def _note(self, delta: SparseDelta) -> None:
        """Remember the entries that a delta will be the first of the call to touch."""
        for factors in delta.weights:
            index = factors.expand()[0]
            known, values = self._found.get(factors.name, (index[:0], self._values(factors.name, index[:0])))
            first = index[~torch.isin(index, known)]
            found = torch.cat([known, first]), torch.cat([values, self._values(factors.name, first)])
            self._found[factors.name] = found

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


@contextmanager
def applying(model: nn.Module) -> Iterator[Deltas]:
    """Let deltas be applied inside; if the block raises, the model is as it was."""
    deltas = Deltas(model)
    try:
        yield deltas
    except BaseException:
        deltas.restore()
        raise


@contextmanager
def changing(weights: Sequence[nn.Parameter]) -> Iterator[Snapshot]:
    """Let weights be changed inside; if the block raises, they are as they were."""
    snapshot = Snapshot(weights)
    try:
        yield snapshot
    except BaseException:
        snapshot.restore()
        raise
