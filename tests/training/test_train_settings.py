"""Settings that cannot work together, or have a value without meaning, are refused."""

import pytest

from roselora.errors import ConfigError
from roselora.training.config_file import read_settings

GIVEN = {"model": "demo", "data.train": "d.jsonl"}


@pytest.mark.parametrize(("value", "warmup"), [("100", 100), ("0.1", 0.1), ("0", 0)])
def test_a_warm_up_is_a_number_of_steps_or_a_fraction(value: str, warmup: float) -> None:
    assert read_settings(None, [f"training.lr_warmup={value}"], GIVEN).training.lr_warmup == warmup


def test_a_fraction_above_the_whole_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lr_warmup.*a fraction must be less than 1"):
        read_settings(None, ["training.lr_warmup=1.5"], GIVEN)


def test_retention_is_refused_for_methods_that_choose_no_entries() -> None:
    with pytest.raises(ConfigError, match="retention works by choosing entries, which the method lora does not do"):
        read_settings(None, ["method=lora", "retention.prompts=keep.txt"], GIVEN)


def test_a_prefix_is_not_trained_without_the_cache_that_it_is_in() -> None:
    with pytest.raises(ConfigError, match="a prefix is in the cache"):
        read_settings(None, ["method=prefix", "training.gradient_checkpointing=true"], GIVEN)
