"""Each method trains, and its adapter is the one that the settings describe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, TaskType

from roselora.training.prepare import prepare
from roselora.training.train_settings import TrainSettings
from roselora.training.training_methods import adapter_config
from tests.training.runs import finished

Settings = Callable[..., TrainSettings]
Write = Callable[..., Path]


@pytest.mark.parametrize("method", ["lora", "dora", "adalora", "shira", "ia3", "prefix", "loreft", "full"])
def test_other_methods_train_under_the_same_settings(settings: Settings, write: Write, method: str) -> None:
    # Every step sees the same batch, so that only training can change the loss.
    data = {"train": str(write([{"prompt": "one and one make", "completion": " two"}] * 4))}
    outcome = finished(settings(method=method, data=data))
    assert outcome.counts is None
    assert outcome.artifacts.delta is None
    losses = [entry["loss"] for entry in outcome.history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.01


def test_shira_trains_as_many_entries_as_lora_at_places_drawn_by_the_seed(settings: Settings) -> None:
    shira, again, other = (prepare(settings(method="shira", training={"seed": seed})) for seed in (0, 0, 1))
    assert shira.trainable == prepare(settings(method="lora")).trainable

    def places(prepared: Any) -> list[torch.Tensor]:
        return [m.shira_indices["default"] for m in prepared.model.modules() if hasattr(m, "shira_indices")]

    assert all(map(torch.equal, places(shira), places(again)))
    assert not all(map(torch.equal, places(shira), places(other)))


def test_ia3_scales_the_input_of_an_mlps_last_layer_and_the_output_of_others(settings: Settings) -> None:
    config = adapter_config(
        settings(method="ia3", adapter={"target_modules": ["k_proj", "down_proj"]}), TaskType.CAUSAL_LM, 10
    )
    assert isinstance(config, IA3Config)
    assert (config.target_modules, config.feedforward_modules) == ({"k_proj", "down_proj"}, {"down_proj"})


def test_the_adapter_of_a_run_is_the_config_files(settings: Settings) -> None:
    run = settings(adapter={"alpha": 8, "dropout": 0.1, "clamp": 0.5, "warmup": 2, "ramp": 3})
    config: Any = adapter_config(run, "CAUSAL_LM", 10)
    assert (config.r, config.lora_alpha, config.lora_dropout, config.clamp) == (4, 8, 0.1, 0.5)
    assert config.ramp_bounds(10) == (2, 5)
