"""`make gpu` is ready for a GPU: its dry run measures all that it would measure there."""

import subprocess
import sys

import pytest
import torch

COMMAND = [sys.executable, "-m", "benchmarks.gpu"]


@pytest.mark.usefixtures("demo")
def test_the_dry_run_prints_every_row_of_the_table() -> None:
    done = subprocess.run([*COMMAND, "--dry-run"], stdout=subprocess.PIPE, text=True, check=True)
    whats = [line.split(" | ")[0].removeprefix("| ") for line in done.stdout.splitlines()[2:]]
    assert whats == [
        *(f"training step, {tokens} tokens" for tokens in (64, 512)),
        *(f"an edit, {method}" for method in ("gate", "gate, 16", "rose-published", "ft-m", "locft-bf")),
        "all of it",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True)
    assert done.returncode == 2
    assert "There is no NVIDIA GPU here; --dry-run" in done.stderr
