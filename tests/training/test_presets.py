from pathlib import Path

import pytest

from roselora.errors import ConfigError
from roselora.training.config_file import read_settings
from roselora.training.presets import PRESETS, preset_values

GIVEN = {"model": "demo", "data.train": "d.jsonl"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_run_and_names_its_source(name: str) -> None:
    settings = read_settings(None, (), GIVEN, name)
    values = preset_values(name)
    assert settings.method == values.pop("method")
    for section, expected in values.items():
        got = getattr(settings, section).model_dump()
        assert {key: got[key] for key in expected} == expected
    assert PRESETS[name].source.endswith(".")


def test_a_preset_gives_way_to_the_file_and_the_file_to_the_options(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("method: rose\nadapter: {rank: 4, alpha: 4}\n")
    settings = read_settings(path, ["adapter.alpha=6"], GIVEN, "llm-adapters-lora")
    assert (settings.method, settings.adapter.rank, settings.adapter.alpha) == ("rose", 4, 6)
    assert settings.training.batch_size == 16
    preset_values("llm-adapters-lora")["adapter"]["rank"] = 1
    assert preset_values("llm-adapters-lora")["adapter"]["rank"] == 32


def test_an_unknown_preset_is_refused_by_naming_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no preset 'lora': name one of llm-adapters-lora"):
        read_settings(None, (), GIVEN, "lora")
