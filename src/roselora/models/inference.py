"""How a model is called: in eval mode, frozen, with the arguments that its forward pass accepts."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

Progress = Callable[[int, int], None]
"""Called during long work with the number of steps that are done, and the number of all."""

_Item = TypeVar("_Item")


def counted(items: Sequence[_Item], on_progress: Progress | None) -> Iterator[_Item]:
    """Each item in turn; calls ``on_progress`` after the work on each."""
    for done, item in enumerate(items, start=1):
        yield item
        if on_progress is not None:
            on_progress(done, len(items))


def unwrapped(model: nn.Module) -> Any:
    """The transformers model inside a PEFT model, or the model itself."""
    unwrap: Any = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def known_arguments(model: nn.Module, **arguments: Any) -> dict[str, Any]:
    """Those of the arguments that the model's forward pass accepts."""
    accepted = inspect.signature(unwrapped(model).forward).parameters
    return {name: value for name, value in arguments.items() if name in accepted}


@contextlib.contextmanager
def default_torch_modes() -> Iterator[None]:
    """Inside, gradients are on, and autocast and inference mode are off, whatever the caller has set."""
    accelerator = torch.accelerator.current_accelerator()
    kinds = {"cpu", "cpu" if accelerator is None else accelerator.type}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in kinds:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode; afterwards the mode of every submodule is restored."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode and no weight requires gradients; afterwards both are restored."""
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        with eval_mode(model):
            yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def contiguous_head_inputs(model: nn.Module) -> Iterator[None]:
    """Inside, the output layer of a language model gets its input as a contiguous tensor.

    Before the first new token it is a slice. For a frozen matrix torch (2.13) does not fold the rows of a slice
    (pytorch/pytorch#186148), but multiplies each by itself, on a CPU by a copy of the matrix (#151934): there it is 5
    times slower, and 300 times in bfloat16.
    """
    head: nn.Module = unwrapped(model).get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: tuple(each.contiguous() for each in inputs))
    try:
        yield
    finally:
        hook.remove()
