"""What a run reports after each step, and how a signal stops it so that it can be resumed."""

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
    """The state of a run after an optimizer step.

    Attributes:
        step: optimizer steps so far.
        total_steps: of the whole run.
        loss: the training loss that was logged last, in nats, or None before the first log.
        density: the density that the adapter was last pruned to, or None if the method does not prune.
    """

    step: int
    total_steps: int
    loss: float | None
    density: float | None


class ProgressCallback(TrainerCallback):
    """Calls ``on_step`` after every step, and adds the density to the log beside the loss."""

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
        """Remember the loss; add the density to the logs for trackers, and to the history."""
        if logs is None or "loss" not in logs:
            return
        self._loss = float(logs["loss"])
        if (density := self._density(state)) is not None:
            logs["density"] = state.log_history[-1]["density"] = density

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the step, from the main process only."""
        if self._on_step is not None and state.is_world_process_zero:
            self._on_step(StepReport(state.global_step, state.max_steps, self._loss, self._density(state)))

    def _density(self, state: TrainerState) -> float | None:
        return None if self._adapter is None else self._adapter.density_at(state.global_step)


class Interruption(TrainerCallback):
    """On Ctrl-C or SIGTERM: finish the step, write a checkpoint, and stop. A second Ctrl-C stops at once.

    A signal to one of several processes stops all of them after the same step.

    Attributes:
        requested: whether this process got a signal.
        stopped_at: the step after which a signal stopped training, or None.
    """

    def __init__(self) -> None:
        self.requested = False
        self.stopped_at: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals while the block runs. Python allows that in the main thread only; elsewhere: no effect."""
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
        """Ask the Trainer for a checkpoint and the end, unless this is the last step anyway."""
        # The processes have to agree at every step: one that stopped alone would leave the others waiting in a
        # collective operation of the next step.
        if processes.any_of_them(self.requested) and state.global_step < state.max_steps:
            self.stopped_at = state.global_step
            control.should_save = True
            control.should_training_stop = True
