"""A callback by which RoseLoRA learns how long a Trainer trains, and refuses a run that does not end sparse."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.training_args import OptimizerNames

from roselora.adapter.density_check import require_sparse
from roselora.adapter.engines import refuse_deepspeed
from roselora.adapter.pruner import STEP
from roselora.adapter.sharding import all_gradients_zero
from roselora.adapter.tracking import TrackedAdapter, TrackedModel, adapters_within
from roselora.errors import ConfigError, SparsityError, UnsupportedError


class RoseLoraCallback(TrainerCallback):
    """Tells RoseLoRA adapters how many steps a Trainer takes, and raises if training ends with one that is dense.

    It is one of the Trainer's default callbacks once a RoseLoraConfig exists; nobody needs to add it.
    """

    def __init__(self) -> None:
        self._first_step = 0
        self._optimizer_was_seen = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the number of steps if the config leaves it open, and check that the schedule ends within training.

        Raises:
            ConfigError: the schedule ends after training, or training resumes from a checkpoint without the
                optimizer's state, which holds the importance and the step count.
            UnsupportedError: the model is trained by DeepSpeed or FSDP1, or by an optimizer that makes no steps.
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
                    "during the backward pass, where they cannot be pruned; choose an optimizer that makes steps."
                )
            if adapter.config.total_steps is None:
                adapter.total_steps = state.max_steps
            if state.global_step and _lacks_state(kwargs.get("optimizer"), tracked, adapter):
                raise ConfigError(
                    f"Training resumes at step {state.global_step} from a checkpoint whose optimizer's state lacks the "
                    f"importance and the step count of RoseLoRA adapter {adapter.name!r}: it was saved without that "
                    "state (save_only_model), or by another method. Resume from another checkpoint, or train from the "
                    "start."
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
        """Check after the first step that the adapter has gradients and that the step pruned it.

        Raises:
            ConfigError: every gradient is 0.
            SparsityError: there are gradients, but the optimizer's step did not prune.
        """
        if self._optimizer_was_seen or getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            return
        self._optimizer_was_seen = True
        for tracked, adapter in adapters_within(kwargs["model"]):
            with_gradient = [
                (name, factor)
                for name, factor, _ in tracked.factors(adapter.name)
                if factor.requires_grad and factor.grad is not None
            ]
            if with_gradient and all_gradients_zero(with_gradient):
                raise ConfigError(
                    f"Every gradient of RoseLoRA adapter {adapter.name!r} is 0 at the first step, so it learns "
                    "nothing; check alpha, dropout and max_grad_norm."
                )
            if with_gradient and adapter.steps == 0:
                raise _never_pruned(adapter.name)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check that every trained adapter is at its density; by now the Trainer has loaded its best checkpoint.

        Raises:
            SparsityError: an adapter was never pruned, or is denser than its target.
        """
        for tracked, adapter in adapters_within(kwargs["model"]):
            if not tracked.trains(adapter.name):
                continue
            if adapter.steps == 0 and state.global_step > self._first_step:
                raise _never_pruned(adapter.name)
            require_sparse(adapter.name, tracked.pairs(adapter.name), adapter.config.density)


def _lacks_state(optimizer: Any, tracked: TrackedModel, adapter: TrackedAdapter) -> bool:
    """Whether the optimizer trains the adapter's factors but has a step count for none of them."""
    factors = {id(factor) for _, factor, _ in tracked.factors(adapter.name)}
    groups = getattr(optimizer, "param_groups", [])
    own = [parameter for group in groups for parameter in group["params"] if id(parameter) in factors]
    return bool(own) and not any(STEP in optimizer.state.get(parameter, {}) for parameter in own)


def _never_pruned(adapter_name: str) -> SparsityError:
    return SparsityError(
        f"RoseLoRA adapter {adapter_name!r} was never pruned: no torch.optim optimizer took a step on its parameters, "
        "so it was trained dense; train it with a torch optimizer."
    )
