import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, PeftConfig, PeftType

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.density_check import verify
from roselora.errors import ConfigError, UnsupportedError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", 0),
        ("density", 0),
        ("density", 1.01),
        ("density", float("nan")),
        ("density", "0.1"),
        ("density", True),
        ("lora_alpha", 0),
        ("lora_alpha", "16"),
        ("lora_alpha", None),
        ("lora_alpha", float("nan")),
        ("importance_beta", 1.0),
        ("importance_beta", -0.1),
        ("warmup", -1),
        ("warmup", 1.5),
        ("warmup", True),
        ("ramp", "long"),
        ("total_steps", 0),
        ("total_steps", 2.5),
        ("clamp", 0),
        ("clamp", float("inf")),
        ("clamp", 1e300),
    ],
)
def test_a_value_that_cannot_work_is_refused_in_one_sentence_that_names_it(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        RoseLoraConfig(**{field: value})
    message = str(error.value)
    assert message.startswith(field)
    assert repr(value) in message
    assert message.count("\n") == 0


@pytest.mark.filterwarnings("ignore:.init_lora_weights. is 'corda'")
@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"lora_bias": True},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"use_qalora": True},
        {"ensure_weight_tying": True},
        {"kasa_config": {}},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": "corda"},
        {"init_lora_weights": "mica"},
        {"init_lora_weights": "lora_ga"},
    ],
    ids=str,
)
def test_options_under_which_the_update_is_not_sparse_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match=next(iter(options))):
        RoseLoraConfig(**options)


def test_monteclora_is_refused() -> None:
    from peft.tuners.lora.config import MontecloraConfig

    with pytest.raises(UnsupportedError, match="monteclora_config"):
        RoseLoraConfig(monteclora_config=MontecloraConfig())


def test_warmup_and_ramp_are_steps_if_whole_and_fractions_if_not() -> None:
    assert RoseLoraConfig(warmup=3, ramp=17).ramp_bounds(25) == (3, 20)
    assert RoseLoraConfig(warmup=0.12, ramp=0.68).ramp_bounds(25) == (3, 20)
    assert RoseLoraConfig(warmup=3, ramp=0.5).ramp_bounds(100) == (3, 53)
    assert RoseLoraConfig(warmup=0, ramp=0).ramp_bounds(1) == (0, 0)


def test_a_fraction_of_a_short_run_still_means_a_dense_step() -> None:
    assert RoseLoraConfig(warmup=0.1, ramp=0.7).ramp_bounds(4) == (1, 3)
    assert RoseLoraConfig(warmup=0.1, ramp=0.1).ramp_bounds(2) == (1, 1)
    assert RoseLoraConfig(warmup=0.0, ramp=0.7).ramp_bounds(4) == (0, 3)


def test_a_ramp_that_ends_after_training_is_refused() -> None:
    with pytest.raises(ConfigError, match="only 10"):
        RoseLoraConfig(warmup=4, ramp=8, total_steps=10)
    with pytest.raises(ConfigError, match=r"warmup \(10\) keeps all 10 steps of training dense"):
        RoseLoraConfig(warmup=10, ramp=0, total_steps=10)


def test_saved_config_is_a_plain_lora_config_with_our_fields_beside_it(tmp_path: Path) -> None:
    config = RoseLoraConfig(r=4, lora_alpha=16, density=0.1, warmup=5, ramp=0.5, clamp=0.003, target_modules=["v"])
    config.save_pretrained(tmp_path)

    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert set(saved) <= {f.name for f in dataclasses.fields(LoraConfig)}
    plain = PeftConfig.from_pretrained(str(tmp_path))
    assert type(plain) is LoraConfig
    assert plain.peft_type is PeftType.LORA

    assert RoseLoraConfig.from_pretrained(tmp_path) == config


def test_a_plain_adapter_is_not_read_as_ours(tmp_path: Path) -> None:
    LoraConfig(target_modules=["v"]).save_pretrained(str(tmp_path))
    with pytest.raises(ConfigError, match=r"holds no roselora_config\.json"):
        RoseLoraConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"densty": 0.1}', '{"density": 7}'])
def test_a_damaged_sidecar_is_refused(tmp_path: Path, text: str) -> None:
    RoseLoraConfig(target_modules=["v"]).save_pretrained(tmp_path)
    (tmp_path / "roselora_config.json").write_text(text)
    with pytest.raises(ConfigError):
        RoseLoraConfig.from_pretrained(tmp_path)


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    RoseLoraConfig(r=3).save_pretrained(tmp_path / "mine")
    assert RoseLoraConfig.from_pretrained("~/mine").r == 3
    with pytest.raises(ConfigError, match=r"mine.*adapter_model"):
        verify("~/mine")


@pytest.mark.parametrize("name", ["/not/there/at-all", "~/not-there", "a b", "./not/there"])
@pytest.mark.parametrize("read", [verify, RoseLoraConfig.from_pretrained])
def test_a_path_without_an_adapter_is_refused_by_name(read: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a folder here.* name an adapter's folder"):
        read(name)
