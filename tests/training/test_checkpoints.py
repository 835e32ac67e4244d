"""A run is resumed from its newest whole checkpoint, or the error says what has changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from roselora.errors import ConfigError, ModelError
from roselora.training.checkpoints import MANIFEST, is_whole, newest_whole
from roselora.training.config_file import read_settings
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import plan, train
from tests.training.runs import finished, interrupted

Settings = Callable[..., TrainSettings]
Write = Callable[..., Path]
ADAPTER = "adapter/adapter_model.safetensors"


def with_checkpoints(settings: Settings, **changes: Any) -> TrainSettings:
    return settings(training={"save_steps": 2}, **changes)


@pytest.fixture
def stopped(settings: Settings) -> TrainSettings:
    """A run that was stopped after step 5, with checkpoints of steps 4 and 5."""
    run = with_checkpoints(settings)
    interrupted(run, 5)
    assert sorted(path.name for path in run.checkpoints.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-5"]
    return run


FILES = ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", MANIFEST]


def test_a_checkpoint_with_a_damaged_file_is_not_whole(stopped: TrainSettings) -> None:
    last, before = stopped.checkpoints / "checkpoint-5", stopped.checkpoints / "checkpoint-4"
    for path in (last / name for name in FILES):
        data = path.read_bytes()
        for damaged in (b"", data[: len(data) // 2], data[:9] + bytes([data[9] ^ 1]) + data[10:], None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            assert newest_whole(stopped.checkpoints) == before, (path.name, damaged)
        path.write_bytes(data)
        assert newest_whole(stopped.checkpoints) == last


def test_a_run_is_resumed_from_the_newest_whole_checkpoint_bit_for_bit(settings: Settings, tmp_path: Path) -> None:
    whole = finished(with_checkpoints(settings, output=str(tmp_path / "whole")))
    run = with_checkpoints(settings, output=str(tmp_path / "stopped"))
    interrupted(run, 5)
    (run.checkpoints / "checkpoint-5" / "optimizer.pt").unlink()
    (run.checkpoints / "checkpoint-6").mkdir()  # as a kill leaves it
    seen: list[int] = []
    resumed = finished(run, resume=True, on_step=lambda report: seen.append(report.step))
    assert seen[0] == 5
    assert resumed.artifacts.sha256[ADAPTER] == whole.artifacts.sha256[ADAPTER]
    assert sorted(path.name for path in run.checkpoints.iterdir() if path.is_dir()) == ["checkpoint-10", "checkpoint-8"]


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", '{"identity": 1, "files": {}}', '{"identity": {}, "files": []}', "[" * 9000]
)
def test_a_manifest_of_something_else_is_no_whole_checkpoint(tmp_path: Path, manifest: str) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    assert not is_whole(tmp_path)


def test_a_run_is_not_resumed_under_other_settings_even_if_its_config_file_is_gone(
    settings: Settings, stopped: TrainSettings
) -> None:
    Path(stopped.output, "config.yaml").unlink()
    other = settings(training={"save_steps": 2, "learning_rate": 1e-3})
    for start in (train, plan):
        with pytest.raises(
            ConfigError, match=r"The training.learning_rate of the run of .* has changed \(0.01, now 0.001\)"
        ):
            start(other, resume=True)


def test_a_whole_number_written_with_a_point_is_the_same_setting(stopped: TrainSettings) -> None:
    path = Path(stopped.output, "config.yaml")
    text = path.read_text()
    assert "alpha: 16\n" in text or "alpha: 16.0\n" in text
    for number in ("16", "16.0"):
        path.write_text(text.replace("alpha: 16.0", "alpha: 16").replace("alpha: 16", f"alpha: {number}"))
        plan(read_settings(path), resume=True)


def test_a_number_of_steps_is_another_setting_than_a_fraction(settings: Settings) -> None:
    run = settings(adapter={"warmup": 1, "ramp": 2})
    interrupted(run, 5)
    with pytest.raises(ConfigError, match=r"The adapter\.warmup of the run of .* has changed"):
        plan(settings(adapter={"warmup": 1.0, "ramp": 0}), resume=True)


def test_a_run_is_not_resumed_on_other_data(stopped: TrainSettings) -> None:
    path = Path(stopped.data.train)
    path.write_text(path.read_text().replace("make", "give"))
    with pytest.raises(
        ConfigError, match=r"The training data of the run of .* has changed \([0-9a-f]{12}, now [0-9a-f]{12}\)"
    ):
        train(stopped, resume=True)
    assert (stopped.checkpoints / "checkpoint-5" / MANIFEST).exists()


def test_a_run_is_not_resumed_on_other_validation_data_or_retention_prompts(
    settings: Settings, write: Write, tmp_path: Path
) -> None:
    validation, prompts = write([{"text": "one"}], "eval.jsonl"), tmp_path / "keep.txt"
    data = {"train": str(write([{"text": "one and two"}] * 4, "train.jsonl")), "eval": str(validation)}
    prompts.write_text("stay\n")
    run = settings(data=data, retention={"prompts": str(prompts)})
    interrupted(run, 5)
    prompts.write_text("go\n")
    with pytest.raises(ConfigError, match=r"The retention prompts of the run of .* has changed"):
        plan(run, resume=True)
    prompts.write_text("stay\n")
    write([{"text": "two"}], "eval.jsonl")
    with pytest.raises(ConfigError, match=r"The validation data of the run of .* has changed"):
        plan(run, resume=True)


def test_a_run_is_not_resumed_on_another_base_or_chat_template(
    settings: Settings, tiny_model_folder: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model_folder, base)
    run = settings(model=str(base))
    interrupted(run, 5)
    template = base / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(ConfigError, match=r"The tokenizer or chat template of the run of .* has changed"):
        plan(run, resume=True)
    shutil.copy(tiny_model_folder / template.name, template)
    weights = load_file(base / "model.safetensors")
    next(iter(weights.values()))[0] += 1
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"The base model of the run of .* has changed"):
        plan(run, resume=True)


@pytest.mark.parametrize(
    ("file", "key", "value", "names"),
    [
        ("config.json", "rms_norm_eps", 0.1, "model config"),
        ("tokenizer.json", "normalizer", {"type": "Lowercase"}, "tokens of the examples"),
    ],
)
def test_a_run_is_not_resumed_with_another_model_config_or_tokenizer(
    settings: Settings,
    tiny_model_folder: Path,
    write: Write,
    tmp_path: Path,
    file: str,
    key: str,
    value: Any,
    names: str,
) -> None:
    base = Path(shutil.copytree(tiny_model_folder, tmp_path / "base"))
    run = settings(model=str(base), data={"train": str(write([{"text": "One And Two"}] * 4, "train.jsonl"))})
    interrupted(run, 2)
    plan(run, resume=True)
    path = base / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ConfigError, match=f"The {names} of the run of .* has changed"):
        plan(run, resume=True)


def test_a_run_is_resumed_where_the_base_was_moved_to(
    settings: Settings, tiny_model_folder: Path, tmp_path: Path
) -> None:
    interrupted(settings(), 2)
    moved = Path(shutil.copytree(tiny_model_folder, tmp_path / "moved"))
    plan(settings(model=str(moved)), resume=True)


def test_a_run_is_resumed_where_output_and_data_were_moved_to(
    settings: Settings, stopped: TrainSettings, tmp_path: Path
) -> None:
    Path(stopped.output).rename(tmp_path / "moved")
    data = Path(stopped.data.train)
    data.rename(tmp_path / "renamed.jsonl")
    run = with_checkpoints(settings, output=str(tmp_path / "moved"), data={"train": str(tmp_path / "renamed.jsonl")})
    assert finished(run, resume=True).prepared.total_steps == 10


def test_a_disk_that_is_full_at_the_tokenizer_of_a_checkpoint_is_one_sentence_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise Exception("No space left on device (os error 28)")  # as tokenizers does

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", full)
    run = with_checkpoints(settings)
    with pytest.raises(ModelError, match=r"checkpoint-2 could not be written \(No space left on device\)"):
        train(run)
    assert not run.checkpoints.exists()


def test_a_disk_that_is_full_at_a_checkpoint_is_one_sentence_and_the_last_whole_one_is_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_checkpoints(settings)
    write = torch.save

    def full(state: Any, path: Any) -> None:
        if "checkpoint-4" in str(path) and "rng_state" in str(path):
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\nat …")
        write(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ModelError, match=r"checkpoint-4 could not be written \(PytorchStreamWriter failed"):
        train(run)
    assert [path.name for path in run.checkpoints.glob("checkpoint-*")] == ["checkpoint-2"]
    monkeypatch.undo()
    assert finished(run, resume=True).prepared.total_steps == 10


def test_every_file_of_a_checkpoint_is_readable_as_the_umask_has_it(stopped: TrainSettings) -> None:
    files = [path for path in (stopped.checkpoints / "checkpoint-5").iterdir() if path.is_file()]
    assert {path.stat().st_mode for path in files} == {Path(stopped.output, "config.yaml").stat().st_mode}
