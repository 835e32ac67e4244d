"""AdaLoRA's ranks are reallocated during training, also in a resumed run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from roselora.training.train_settings import TrainSettings
from tests.training.runs import finished, interrupted

Settings = Callable[..., TrainSettings]


def test_adalora_really_cuts_its_ranks(settings: Settings) -> None:
    outcome = finished(settings(method="adalora", training={"max_steps": 20}))
    model = outcome.prepared.model
    kept = [int((p != 0).sum()) for name, p in model.named_parameters() if "lora_E" in name]
    assert sum(kept) == 4 * len(kept)  # from 6 a matrix at the start to 4 on average


@pytest.mark.parametrize("step", [2, 4, 6, 9])
def test_adalora_resumes_bit_for_bit_before_within_and_after_the_ramp(
    settings: Settings, tmp_path: Path, step: int
) -> None:
    def run(output: str) -> TrainSettings:
        return settings(method="adalora", output=str(tmp_path / output))

    whole = finished(run("whole"))
    interrupted(run("stopped"), step)
    resumed = finished(run("stopped"), resume=True)
    assert resumed.artifacts.sha256 == whole.artifacts.sha256
    configs = [json.loads((each.artifacts.folder / "adapter_config.json").read_text()) for each in (whole, resumed)]
    assert configs[0]["rank_pattern"] == configs[1]["rank_pattern"]
