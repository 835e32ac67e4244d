"""The hooks by which RoseLoRA notices new adapters and prunes them around every optimizer step.

Importing roselora installs nothing. The first RoseLoraConfig installs a wrapper around PEFT's injection, torch's two
global optimizer step hooks, and a default callback of transformers' Trainer. None of them affects a model without a
RoseLoRA adapter.
"""

import functools
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from transformers import trainer as transformers_trainer

from roselora.adapter.factors import adapted_layers
from roselora.adapter.pruner import ScoredFactor, prune, prune_again, score
from roselora.adapter.sparsity_config import SparsityConfig
from roselora.adapter.targets import require_targets
from roselora.adapter.tracking import TrackedAdapter, track, tracked_models, untrack
from roselora.adapter.trainer_callback import RoseLoraCallback
from roselora.errors import UnsupportedError

_lock = threading.Lock()


def install() -> None:
    """Install the hooks, once per process."""
    with _lock:
        if getattr(BaseTuner.inject_adapter, "_roselora", False):
            return
        BaseTuner.inject_adapter = _tracking(BaseTuner.inject_adapter)  # type: ignore[method-assign]
        # Not compiled, even within a compiled step: dynamo cannot trace numpy's partition.
        register_optimizer_step_pre_hook(torch.compiler.disable(_before_step))  # type: ignore[no-untyped-call]
        register_optimizer_step_post_hook(torch.compiler.disable(_after_step))  # type: ignore[no-untyped-call]
        transformers_trainer.DEFAULT_CALLBACKS.append(RoseLoraCallback)  # type: ignore[arg-type]


def _tracking(inject_adapter: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``BaseTuner.inject_adapter``, which every way of adding an adapter calls, to track RoseLoRA adapters."""

    @functools.wraps(inject_adapter)
    def inject_and_track(self: BaseTuner, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        config = self.peft_config[adapter_name]
        if not isinstance(config, SparsityConfig):
            inject_adapter(self, model, adapter_name, *args, **kwargs)
            untrack(self.model, adapter_name)
            return
        config.check()  # its fields may have changed since it was made
        config.warn_of_whole_modules()
        config.warn_of_no_dense_step()
        require_targets(model, config)
        inject_adapter(self, model, adapter_name, *args, **kwargs)
        _refuse_grouped_convolutions(self.model, adapter_name)
        # `self.model`, not `model`: a PeftMixedModel passes its base for the first adapter, and later itself.
        track(self.model, TrackedAdapter(adapter_name, config, config.total_steps))

    inject_and_track._roselora = True  # type: ignore[attr-defined]
    return inject_and_track


def _refuse_grouped_convolutions(model: nn.Module, adapter_name: str) -> None:
    for name, layer in adapted_layers(model, adapter_name):
        groups = getattr(layer.get_base_layer(), "groups", 1)
        if groups > 1:
            raise UnsupportedError(
                f"RoseLoRA does not support convolutions in groups: {name} has {groups}, which share the columns of "
                "its B; leave it out of target_modules."
            )


@dataclass
class _StepInProgress:
    """An optimizer's step between its two hooks.

    An optimizer that calls its parent's ``step`` fires the hooks twice, nested. The average must then be updated only
    once, by the inner step, and the weights pruned twice, because the outer step may move weights that the inner one
    has pruned.

    Attributes:
        scored: the factors that were scored before the step.
        depth: how many nested steps are in progress.
        pruned: whether an inner step has updated the averages and pruned.
    """

    scored: list[ScoredFactor]
    depth: int = 1
    pruned: bool = False


_steps: "weakref.WeakKeyDictionary[Optimizer, _StepInProgress]" = weakref.WeakKeyDictionary()


def _before_step(
    optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    if not tracked_models():
        return None
    outer = _steps.get(optimizer)
    # A step that raised leaves its record behind. One that has pruned cannot be the outer step of this one; of one that
    # has not, only the depth is taken, so at worst this step's own record stays until the next step replaces it.
    outer_depth = outer.depth if outer is not None and not outer.pruned else 0
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    step = _steps[optimizer] = _StepInProgress([], depth=outer_depth + 1)
    if closure is None:
        step.scored = score(optimizer)
        return None
    scoring = _scoring(closure, optimizer, step)
    if "closure" in kwargs:
        return args, {**kwargs, "closure": scoring}
    return (args[0], scoring, *args[2:]), kwargs


def _scoring(closure: Callable[[], Any], optimizer: Optimizer, step: _StepInProgress) -> Callable[[], Any]:
    """Wrap a closure, which computes the gradients inside the step, so that the factors are scored when it returns."""
    done = False

    def closure_then_score() -> Any:
        nonlocal done
        loss = closure()
        if not done:  # LBFGS calls it several times in one step, each time with other weights
            done = True
            step.scored = score(optimizer)
        return loss

    return closure_then_score


def _after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    step = _steps.get(optimizer)
    if step is None:
        return
    if step.pruned:
        prune_again(optimizer, step.scored)
    else:
        prune(optimizer, step.scored)
        step.pruned = True
    step.depth -= 1
    if step.depth == 0:
        del _steps[optimizer]
