"""Read what goes into a model's modules and comes out of them, and put known states in the place of some."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from roselora.models.inference import known_arguments

Tap = Callable[[Tensor, Tensor], None]
"""Called with a module's first input and its first output."""


class _EnoughError(Exception):
    """Every tapped module has run, so the layers above need not."""


@torch.no_grad()
def run_until(model: nn.Module, inputs: Mapping[str, Any], taps: Mapping[str, Tap]) -> None:
    """A forward pass that shows each tap its module's input and output, and ends once all of them have run."""
    waiting = set(taps)

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]:
        def show(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            taps[name](arguments[0] if arguments else next(iter(named.values())), first(output))
            waiting.discard(name)
            if not waiting:
                raise _EnoughError

        return show

    handles = [model.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True) for name in taps]
    forward: Any = model
    try:
        forward(**inputs, **known_arguments(model, use_cache=False))
    except _EnoughError:
        pass
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def giving(blocks: Sequence[nn.Module], states: Tensor) -> Iterator[None]:
    """Inside, these blocks give back the states, whatever comes in, and run nothing."""
    before = [block.__dict__.get("forward") for block in blocks]
    for block in blocks:
        block.forward = lambda *_, **__: states
    try:
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            if own is None:
                del block.forward
            else:
                block.forward = own


def first(output: Any) -> Tensor:
    """The hidden states in what a module gives back, be it a tensor or a tuple."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
