"""A base whose weights are stored quantized: adapters are trained on it, and what needs plain weights refuses it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedTokenizerFast

from roselora.errors import ModelError
from roselora.models.loading import load
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import train
from tests.training.runs import finished

pytestmark = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")


@pytest.fixture
def quantized_folder(tiny_model: Callable[..., Any], tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    tiny_model(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path / "plain")
    in_4_bits = BitsAndBytesConfig(load_in_4bit=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=in_4_bits, device_map="cpu")
    model.save_pretrained(tmp_path / "quantized")
    tiny_tokenizer.save_pretrained(tmp_path / "quantized")
    return tmp_path / "quantized"


@pytest.mark.parametrize("method", ["rose", "lora"])
def test_an_adapter_is_trained_on_a_quantized_base(
    settings: Callable[..., TrainSettings], quantized_folder: Path, method: str
) -> None:
    outcome = finished(settings(model=str(quantized_folder), method=method))
    assert (Path(outcome.settings.output) / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("method", ["full", "loreft"])
def test_methods_that_need_plain_weights_refuse_a_quantized_base_by_name(
    settings: Callable[..., TrainSettings], quantized_folder: Path, tmp_path: Path, method: str
) -> None:
    with pytest.raises(ModelError, match=r"quantized \(bitsandbytes\)"):
        train(settings(model=str(quantized_folder), method=method))
    assert not (tmp_path / "out").exists()


def test_an_editor_is_given_no_quantized_base(quantized_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"quantized \(bitsandbytes\)"):
        load(quantized_folder)
