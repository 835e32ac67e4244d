"""Helpers of the tests that train: runs that finish, that are interrupted, and that are killed."""

import multiprocessing
import os
import signal
from typing import Any
from unittest import mock

from roselora.training.train_settings import TrainSettings
from roselora.training.training_progress import StepReport
from roselora.training.training_run import Finished, Interrupted, train

SUMS = [{"prompt": f"{a} and {a} make", "completion": f" {2 * a}"} for a in range(4)]
REVIEWS = [{"text": text, "label": "up"} for text in ("good", "very good", "fine", "nice")] + [
    {"text": text, "label": "down"} for text in ("bad", "very bad", "poor", "dull")
]


def finished(settings: TrainSettings, **options: Any) -> Finished:
    """The outcome of a run that must reach its end."""
    outcome = train(settings, **options)
    assert isinstance(outcome, Finished)
    return outcome


def interrupted(settings: TrainSettings, step: int, **options: Any) -> Interrupted:
    """The outcome of a run that gets a SIGINT after a step."""
    outcome = train(settings, on_step=StopAt(step), **options)
    assert isinstance(outcome, Interrupted)
    return outcome


class StopAt:
    """An ``on_step`` that sends this process a signal after a step, as Ctrl-C does."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def __call__(self, report: StepReport) -> None:
        if report.step == self.step:
            os.kill(os.getpid(), self.number)


def killed(settings: TrainSettings, at: str) -> None:
    """Train in another process, which is killed as soon as it calls the function of this dotted name."""
    process = multiprocessing.get_context("forkserver").Process(target=_train_until_killed, args=(settings, at))
    process.start()
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL


def _train_until_killed(settings: TrainSettings, at: str) -> None:
    with mock.patch(at, side_effect=lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)):
        train(settings)
