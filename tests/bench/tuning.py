"""What the tests of fine-tuning benchmarks ask for."""

from pathlib import Path

from roselora.bench.running.eta import RunProgress
from roselora.bench.running.tuning_plan import TuningRequest

SETTINGS = ("training.max_steps=3", "training.batch_size=2", "adapter.rank=2", "adapter.density=0.5")


def nothing(at: RunProgress) -> None:
    """Where progress is of no interest."""


def commonsense_request(data: Path, model: Path, folder: Path) -> TuningRequest:
    """Two sets of the commonsense benchmark, one method, two seeds."""
    return TuningRequest(
        benchmark="commonsense",
        protocol="loreft",
        model=str(model),
        methods=("rose",),
        seeds=(0, 1),
        folder=folder,
        sets=("boolq", "piqa"),
        overrides=SETTINGS,
        data_dir=data,
        command="roselora bench commonsense",
    )
