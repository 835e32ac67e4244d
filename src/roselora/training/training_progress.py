"""What a run tells while it goes on, and how it is stopped so that it can go on later."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from roselora.adapter.tracking import TrackedAdapter, adapters_within
from roselora.training import processes


@dataclass(frozen=True)
class StepReport:
    """Where a run stands after an optimizer step.

    Attributes:
        step: optimizer steps taken.
        total_steps: of the whole run.
        loss: the training loss last logged, in nats, or None before the first.
        density: what the adapter was last pruned to, or None if the method does not prune.
    """

    step: int
    total_steps: int
    loss: float | None
    density: float | None


class ProgressCallback(TrainerCallback):
    """Tells ``on_step`` after every step, and puts the density into the log beside the loss."""

    def __init__(self, on_step: Callable[[StepReport], None] | None) -> None:
        self._on_step = on_step
        self._loss: float | None = None
        self._adapter: TrackedAdapter | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the RoseLoRA adapter, if there is one; a run has at most one."""
        self._adapter = next((adapter for _, adapter in adapters_within(kwargs["model"])), None)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note the loss; add the density to what trackers and the history get."""
        if logs is None or "loss" not in logs:
            return
        self._loss = float(logs["loss"])
        density = self._density(state.global_step)
        if density is not None:
            logs["density"] = state.log_history[-1]["density"] = density

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One optimizer step is done."""
        if self._on_step is not None and state.is_world_process_zero:
            density = self._density(state.global_step)
            self._on_step(StepReport(state.global_step, state.max_steps, self._loss, density))

    def _density(self, step: int) -> float | None:
        return None if self._adapter is None else self._adapter.density_at(step)


class Interruption(TrainerCallback):
    """Ctrl-C or a termination signal: finish the step, keep a checkpoint, stop. A second Ctrl-C stops at once.

    A signal to one of several processes stops all of them after the same step.

    Attributes:
        requested: whether one came to this process.
        stopped_at: the step after which training stopped because of it, or None.
    """

    def __init__(self) -> None:
        self.requested = False
        self.stopped_at: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals while the block runs; only the main thread of a process can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request(self, number: int, frame: object) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask the Trainer for a checkpoint and the end, unless this was the last step anyway."""
        if processes.any_of_them(self.requested) and state.global_step < state.max_steps:
            self.stopped_at = state.global_step
            control.should_save = True
            control.should_training_stop = True
