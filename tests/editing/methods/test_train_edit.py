from dataclasses import asdict
from typing import Any

import pytest

from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.train_edit import default_settings, settings_of
from tests.models.kinds import model as small_model

NEURONS = {"block": 1, "indices": [3, 4]}


def test_a_model_whose_mlps_have_no_neurons_to_replace_is_edited_by_factors() -> None:
    assert default_settings(small_model("gpt2")) == GateSettings()
    model = small_model("llama")
    model.config.hidden_act = "tanh"
    assert default_settings(model) == EditSettings()


def test_settings_that_do_not_work_are_not_trained_with_again() -> None:
    good = asdict(EditSettings())
    assert settings_of({"settings": good}) == EditSettings()
    for bad in ({"rank": 0}, {"rank": "many"}, {"density": None}, {"target_modules": 5}, {"more": 1}):
        assert settings_of({"settings": good | bad}) is None


@pytest.mark.parametrize(
    ("settings", "more", "provenance"),
    [(EditSettings(rank=4), {"retention": 0.0}, {}), (GateSettings(depth=0.9), {"seed": 3}, {"neurons": NEURONS})],
)
def test_settings_of_earlier_versions_that_had_no_effect_are_left_out(
    settings: Any, more: dict[str, Any], provenance: dict[str, Any]
) -> None:
    assert settings_of({"settings": asdict(settings) | more, **provenance}) == settings
    assert settings_of({"settings": asdict(settings), **provenance}) == settings


def test_settings_with_an_effect_that_this_version_does_not_have_are_not_understood() -> None:
    assert settings_of({"settings": asdict(EditSettings()) | {"retention": 1.0}}) is None
