"""What each method changes in the base's weights, against the two models compared entry by entry."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from roselora.models import load
from roselora.training.footprint import entries_changed
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import Finished, train

Settings = Callable[..., TrainSettings]


def trained(run: TrainSettings) -> Finished:
    outcome = train(run)
    assert isinstance(outcome, Finished)
    return outcome


def different(base: Any, other: Any) -> int:
    after = dict(other.named_parameters())
    return sum(int((after[name] != weight).sum()) for name, weight in base.named_parameters())


@pytest.mark.parametrize("method", ["rose", "lora", "dora", "adalora", "shira", "ia3"])
def test_an_adapters_entries_are_those_in_which_the_merged_model_differs(settings: Settings, method: str) -> None:
    run = settings(method=method)
    outcome = trained(run)
    weights = {name: weight.clone() for name, weight in outcome.prepared.model.state_dict().items()}
    count = entries_changed(outcome.prepared, run)
    assert all(torch.equal(weight, weights[name]) for name, weight in outcome.prepared.model.state_dict().items())
    merged: Any = PeftModel.from_pretrained(load(run.model).model, Path(run.output, "adapter"))
    assert count == different(load(run.model).model, merged.merge_and_unload())
    assert count > 0


def test_a_prefix_changes_no_weight(settings: Settings) -> None:
    run = settings(method="prefix")
    assert entries_changed(trained(run).prepared, run) == 0


def test_full_training_is_compared_with_the_base(settings: Settings) -> None:
    run = settings(method="full", training={"learning_rate": 1e-3})
    outcome = trained(run)
    count = entries_changed(outcome.prepared, run)
    assert count == different(load(run.model).model, load(Path(run.output, "model")).model)
    assert count > 0
