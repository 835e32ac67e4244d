"""How the pruner reaches any optimizer, and how it learns a Trainer's number of steps.

Nothing is installed when roselora is imported: the first RoseLoraConfig installs one wrap of PEFT's injection, the
two global optimizer step hooks of torch, and one default callback of transformers' Trainer. Models without a
RoseLoRA adapter are not affected by any of them.
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
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers import trainer as transformers_trainer
from transformers.training_args import OptimizerNames

from roselora.adapter.engines import refuse_deepspeed
from roselora.adapter.factors import adapted_layers
from roselora.adapter.pruner import STEP, ScoredFactor, prune, prune_again, score
from roselora.adapter.sharding import all_gradients_zero
from roselora.adapter.sparsity_config import SparsityConfig
from roselora.adapter.targets import require_targets
from roselora.adapter.tracking import TrackedAdapter, TrackedModel, adapters_within, track, tracked_models, untrack
from roselora.adapter.verify import require_sparse
from roselora.errors import ConfigError, SparsityError, UnsupportedError

_lock = threading.Lock()


def install() -> None:
    """Install the hooks, once per process."""
    with _lock:
        if getattr(BaseTuner.inject_adapter, "_roselora", False):
            return
        BaseTuner.inject_adapter = _noting(BaseTuner.inject_adapter)  # type: ignore[method-assign]
        # Ordinary Python even within a compiled step: dynamo can't trace numpy's partition.
        register_optimizer_step_pre_hook(torch.compiler.disable(_before_step))  # type: ignore[no-untyped-call]
        register_optimizer_step_post_hook(torch.compiler.disable(_after_step))  # type: ignore[no-untyped-call]
        transformers_trainer.DEFAULT_CALLBACKS.append(RoseLoraCallback)  # type: ignore[arg-type]


def _noting(inject_adapter: Callable[..., None]) -> Callable[..., None]:
    """Wrap the one place that every way of adding an adapter passes through; mixed models have a tuner of their own."""

    @functools.wraps(inject_adapter)
    def inject_and_note(self: BaseTuner, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        config = self.peft_config[adapter_name]
        if not isinstance(config, SparsityConfig):
            inject_adapter(self, model, adapter_name, *args, **kwargs)
            untrack(self.model, adapter_name)
            return
        config.check()  # it may have been changed since it was made
        config.warn_of_whole_modules()
        config.warn_of_no_dense_step()
        require_targets(model, config)
        inject_adapter(self, model, adapter_name, *args, **kwargs)
        _refuse_grouped_convolutions(self.model, adapter_name)
        # Not `model`: a mixed model passes itself there, and its first adapter its base.
        track(self.model, TrackedAdapter(adapter_name, config, config.total_steps))

    inject_and_note._roselora = True  # type: ignore[attr-defined]
    return inject_and_note


def _refuse_grouped_convolutions(model: nn.Module, adapter_name: str) -> None:
    for name, layer in adapted_layers(model, adapter_name):
        groups = getattr(layer.get_base_layer(), "groups", 1)
        if groups > 1:
            raise UnsupportedError(
                f"RoseLoRA does not support convolutions in groups: {name} has {groups}, and a column of its B serves "
                "them all; leave it out of target_modules."
            )


@dataclass
class _StepInProgress:
    """An optimizer's step between its two hooks.

    Optimizers that call a parent's ``step`` fire the hooks twice, nested: the average may then move only once, and
    the outer step may move weights that the inner one had pruned. A step that raised leaves its record behind, so
    a record is trusted only until the next step begins.
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
    earlier = _steps.get(optimizer)
    outer_depth = earlier.depth if earlier is not None and not earlier.pruned else 0
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
    """A closure computes the gradients inside the step, so the score is taken when it first returns."""
    done = False

    def closure_then_score() -> Any:
        nonlocal done
        loss = closure()
        if not done:
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


class RoseLoraCallback(TrainerCallback):
    """Tells RoseLoRA adapters how long a Trainer will train, and refuses to end with one that is not sparse."""

    def __init__(self) -> None:
        self._first_step = 0
        self._optimizer_was_seen = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the number of steps where the config left it open; refuse one that ends too soon.

        Raises:
            ConfigError: the schedule would not end within this training, or training goes on from a checkpoint that
                does not hold where the schedule is.
            UnsupportedError: DeepSpeed or FSDP1 trains the model, or an optimizer that makes no steps.
        """
        self._first_step = state.global_step
        self._optimizer_was_seen = False
        for tracked, adapter in adapters_within(kwargs["model"]):
            refuse_deepspeed()
            if not tracked.trains(adapter.name):
                continue
            if args.optim in (OptimizerNames.LOMO, OptimizerNames.ADALOMO):
                raise UnsupportedError(
                    f"RoseLoRA does not support optim={OptimizerNames(args.optim).value!r}: it moves the weights "
                    "during the backward pass, where nothing prunes them; choose an optimizer that makes steps."
                )
            if adapter.config.total_steps is None:
                adapter.total_steps = state.max_steps
            if state.global_step and _has_forgotten(kwargs.get("optimizer"), tracked, adapter):
                raise ConfigError(
                    f"Training goes on at step {state.global_step} from a checkpoint without its optimizer's state, in "
                    f"which RoseLoRA adapter {adapter.name!r} keeps its importance and its place in the schedule; go "
                    "on from one that was saved with save_only_model=False, or train from the start."
                )
            _, ramp_end = adapter.ramp()
            if ramp_end > state.max_steps:
                raise ConfigError(
                    f"RoseLoRA adapter {adapter.name!r} reaches its density at step {ramp_end}, but this Trainer "
                    f"stops at {state.max_steps}; leave total_steps out of its RoseLoraConfig, or train longer."
                )

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse, at its first step, an adapter that nothing reaches, and an optimizer that did not prune it.

        Raises:
            ConfigError: every gradient is 0.
            SparsityError: the optimizer used the gradients and pruned nothing.
        """
        if self._optimizer_was_seen or getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            return
        self._optimizer_was_seen = True
        for tracked, adapter in adapters_within(kwargs["model"]):
            reached = [
                (name, factor)
                for name, factor, _ in tracked.factors(adapter.name)
                if factor.requires_grad and factor.grad is not None
            ]
            if reached and all_gradients_zero(reached):
                raise ConfigError(
                    f"Every gradient of RoseLoRA adapter {adapter.name!r} is 0 at the first step: it learns nothing; "
                    "see that alpha, dropout and max_grad_norm are of a usual size."
                )
            if reached and adapter.steps == 0:
                raise _never_pruned(adapter.name)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check every trained adapter; runs after the Trainer has loaded its best checkpoint.

        Raises:
            SparsityError: an adapter was never pruned, or is denser than its target.
        """
        for tracked, adapter in adapters_within(kwargs["model"]):
            if not tracked.trains(adapter.name):
                continue
            if adapter.steps == 0 and state.global_step > self._first_step:
                raise _never_pruned(adapter.name)
            require_sparse(adapter.name, tracked.pairs(adapter.name), adapter.config.density)


def _has_forgotten(optimizer: Any, tracked: TrackedModel, adapter: TrackedAdapter) -> bool:
    """Whether the optimizer trains the adapter's factors and knows of none how often it has been pruned."""
    factors = {id(factor) for _, factor, _ in tracked.factors(adapter.name)}
    groups = getattr(optimizer, "param_groups", [])
    own = [parameter for group in groups for parameter in group["params"] if id(parameter) in factors]
    return bool(own) and not any(STEP in optimizer.state.get(parameter, {}) for parameter in own)


def _never_pruned(adapter_name: str) -> SparsityError:
    return SparsityError(
        f"RoseLoRA adapter {adapter_name!r} was never pruned: no step of a torch.optim optimizer reached its "
        "parameters, so it was trained dense; train it with a torch optimizer."
    )
