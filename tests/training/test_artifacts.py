"""The files of a finished run hold what was trained, and everybody whom the umask allows can read them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
)

from roselora.training.train_settings import TrainSettings
from tests.training.runs import finished

Settings = Callable[..., TrainSettings]


def test_an_adapted_embedding_is_saved_as_factors_alone_and_no_hub_is_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*arguments: Any, **options: Any) -> bool:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", asked)
    outcome = finished(settings(adapter={"target_modules": ["embed_tokens", "q_proj"]}))
    saved = load_file(outcome.artifacts.folder / "adapter_model.safetensors")
    assert all("lora_" in name for name in saved)


def test_an_adapted_embedding_that_is_also_the_head_has_no_delta(
    settings: Settings, tiny_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    adapter = {"target_modules": ["embed_tokens", "q_proj"]}
    outcome = finished(settings(adapter=adapter, output=str(tmp_path / "tied")))
    assert outcome.artifacts.delta is None
    assert not (tmp_path / "tied" / "delta.safetensors").exists()
    reason = outcome.artifacts.no_delta
    assert reason is not None
    assert "model.embed_tokens.weight and lm_head.weight are one weight" in reason
    tiny_model(tie_word_embeddings=False).save_pretrained(tmp_path / "untied")
    tiny_tokenizer.save_pretrained(tmp_path / "untied")
    untied = settings(adapter=adapter, output=str(tmp_path / "apart"), model=str(tmp_path / "untied"))
    assert finished(untied).artifacts.delta is not None


def test_a_whole_model_is_saved_with_its_generation_config_though_transformers_would_refuse_that(
    settings: Settings, tiny_model_folder: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_model_folder, tmp_path / "base"))
    known = json.loads((base / "generation_config.json").read_text()) | {"do_sample": False, "temperature": 0.6}
    (base / "generation_config.json").write_text(json.dumps(known))
    outcome = finished(settings(method="full", model=str(base), training={"save_steps": 5}))
    saved = [*Path(outcome.settings.output).rglob("generation_config.json")]
    assert outcome.artifacts.folder / "generation_config.json" in saved
    assert len(saved) > 1  # a checkpoint has one too
    assert {file.read_bytes() for file in saved} == {(base / "generation_config.json").read_bytes()}


@pytest.mark.parametrize("method", ["lora", "loreft", "full"])
def test_all_files_of_a_run_have_the_modes_of_the_umask(settings: Settings, method: str) -> None:
    before = os.umask(0o022)
    try:
        outcome = finished(settings(method=method, training={"save_steps": 5}))
    finally:
        os.umask(before)
    for path in [output := Path(outcome.settings.output), *output.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("method", ["shira", "ia3", "prefix"])
def test_what_other_methods_save_is_what_they_trained(settings: Settings, tiny_model_folder: Path, method: str) -> None:
    outcome = finished(settings(method=method))
    tokens = torch.tensor([[5, 9, 30, 60]])
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        before = base(tokens).logits
        loaded = PeftModel.from_pretrained(base, outcome.artifacts.folder).eval()(tokens).logits
        trained = outcome.prepared.model.eval()(tokens).logits
    torch.testing.assert_close(loaded, trained, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, trained, atol=1e-4)
