"""What tests of whole runs share."""

import os
import signal
from typing import Any

from roselora.training.train_settings import TrainSettings
from roselora.training.training_progress import StepReport
from roselora.training.training_run import Finished, Interrupted, train


def finished(settings: TrainSettings, **options: Any) -> Finished:
    """The outcome of a run that reaches its end."""
    outcome = train(settings, **options)
    assert isinstance(outcome, Finished)
    return outcome


def interrupted(settings: TrainSettings, step: int, **options: Any) -> Interrupted:
    """The outcome of a run that is stopped after a step."""
    outcome = train(settings, on_step=StopAt(step), **options)
    assert isinstance(outcome, Interrupted)
    return outcome


class StopAt:
    """Sends this process a signal after a step, as Ctrl-C does."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def __call__(self, report: StepReport) -> None:
        if report.step == self.step:
            os.kill(os.getpid(), self.number)
