"""A run reports every step, and a signal stops it so that it can be resumed bit for bit."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from roselora.training.train_settings import TrainSettings
from roselora.training.training_progress import StepReport
from roselora.training.training_run import Interrupted, train
from tests.training.runs import StopAt, finished

Settings = Callable[..., TrainSettings]


def test_the_loss_falls_and_every_step_is_reported_with_its_density(settings: Settings) -> None:
    seen: list[StepReport] = []
    outcome = finished(settings(training={"max_steps": 30}), on_step=seen.append)
    assert [report.step for report in seen] == list(range(1, 31))
    assert (seen[0].density, seen[-1].density) == (1, 0.25)
    losses = [entry["loss"] for entry in outcome.history if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_resumed_bit_for_bit_in_mid_ramp(settings: Settings, tmp_path: Path, number: int) -> None:
    changes = {"adapter": {"dropout": 0.1}}
    whole = finished(settings(output=str(tmp_path / "whole"), **changes))
    stopped = settings(output=str(tmp_path / "stopped"), **changes)
    handler = signal.getsignal(number)
    outcome = train(stopped, on_step=StopAt(5, number))
    assert isinstance(outcome, Interrupted)
    assert (outcome.step, outcome.total_steps) == (5, 10)
    assert outcome.checkpoint.is_dir()
    assert not (tmp_path / "stopped" / "adapter").exists()
    resumed = finished(stopped, resume=True)
    name = "adapter/adapter_model.safetensors"
    assert resumed.artifacts.sha256[name] == whole.artifacts.sha256[name]
    assert signal.getsignal(number) is handler
