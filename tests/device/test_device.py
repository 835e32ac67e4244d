"""Everything that computes runs on an accelerator too, with no tensor left on the wrong device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ON_DEVICE = Path(__file__).with_name("on_device.py")


@pytest.mark.timeout(900)  # a minute on two free cores
def test_everything_runs_on_an_accelerator_that_refuses_tensors_of_other_devices() -> None:
    """In a process of its own: a device is registered for good, and torch then prefers it to the CPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(ON_DEVICE)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path.cwd())
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
