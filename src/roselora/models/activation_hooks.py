"""Read and change what goes into a model's modules and comes out of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from roselora.models.inference import known_arguments

InputHook = Callable[[Tensor], Tensor | None]
"""Called with a module's first input; a tensor that it returns takes its place."""

OutputHook = Callable[[Tensor, Tensor], Tensor | None]
"""Called with a module's first input and its first output; a tensor that it returns takes the output's place."""


@contextmanager
def hooked(
    *, inputs: Mapping[nn.Module, InputHook] | None = None, outputs: Mapping[nn.Module, OutputHook] | None = None
) -> Iterator[None]:
    """Inside, hooks are called whenever their modules run.

    >>> layer = nn.Linear(2, 2)
    >>> with hooked(outputs={layer: lambda given, made: torch.zeros_like(made)}):
    ...     layer(torch.ones(1, 2)).tolist()
    [[0.0, 0.0]]
    """
    handles = [
        module.register_forward_pre_hook(_before(hook), with_kwargs=True) for module, hook in (inputs or {}).items()
    ]
    handles += [
        module.register_forward_hook(_after(hook), with_kwargs=True) for module, hook in (outputs or {}).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _before(hook: InputHook) -> Callable[..., Any]:
    def call(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        changed = hook(_first_input(positional, named))
        if changed is None:
            return None
        return ((changed, *positional[1:]), named) if positional else ((), named | {next(iter(named)): changed})

    return call


def _after(hook: OutputHook) -> Callable[..., Any]:
    def call(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        changed = hook(_first_input(positional, named), states)
        if changed is None:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return call


def _first_input(positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return positional[0] if positional else next(iter(named.values()))


class Activation(NamedTuple):
    """A module's first input and its first output."""

    input: Tensor
    output: Tensor


class _AllRecordedError(Exception):
    """Every module of interest has run, so the layers above need not."""


@torch.no_grad()
def activations(model: nn.Module, inputs: Mapping[str, Any], modules: Sequence[str]) -> dict[str, Activation]:
    """What these modules read and return in a forward pass, which ends as soon as all of them have run."""
    found: dict[str, Activation] = {}

    def record(name: str) -> OutputHook:
        def hook(given: Tensor, made: Tensor) -> None:
            found[name] = Activation(given.clone(), made.clone())  # the model may change its own in place later
            if len(found) == len(modules):
                raise _AllRecordedError

        return hook

    forward: Any = model
    with suppress(_AllRecordedError), hooked(outputs={model.get_submodule(name): record(name) for name in modules}):
        forward(**inputs, **known_arguments(model, use_cache=False))
    return found


@contextmanager
def replaced_forward(modules: Iterable[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Inside, these modules run ``forward`` instead of their own forward pass."""
    before = [(module, vars(module).get("forward")) for module in modules]
    for module, _ in before:
        module.forward = forward
    try:
        yield
    finally:
        for module, own in before:
            if own is None:
                del module.forward
            else:
                module.forward = own
