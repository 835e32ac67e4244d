"""NaN and infinity are found where they begin, and never saved, by any method."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from roselora.errors import NonFiniteError
from roselora.training.nonfinite import FiniteCallback, require_finite
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import train

Settings = Callable[..., TrainSettings]
METHODS = ["rose", "lora", "dora", "adalora", "shira", "ia3", "prefix", "loreft", "full"]


@pytest.mark.parametrize("method", METHODS)
def test_no_method_saves_what_has_become_nan(
    settings: Settings, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gradients = Trainer.training_step

    def training_step(self: Trainer, model: Any, *rest: Any) -> torch.Tensor:
        loss = make_gradients(self, model, *rest)
        if self.state.global_step == 3:
            next(p.grad for p in model.parameters() if p.grad is not None).view(-1)[0] = float("nan")
        return loss

    monkeypatch.setattr(Trainer, "training_step", training_step)
    run = settings(method=method, training={"save_steps": 1})
    with pytest.raises(NonFiniteError, match=r"\w\.\w.*NaN or infini.* step 4"):
        train(run)
    assert sorted(path.name for path in run.checkpoints.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    assert not (tmp_path / "out" / "adapter").exists()
    assert not (tmp_path / "out" / "model").exists()


def test_a_model_whose_loss_is_nan_after_the_last_step_is_not_saved(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when factors are finite and their product is not.
    step = (torch.tensor(float("nan")), None, None)
    monkeypatch.setattr("roselora.training.trainers.SFTTrainer.prediction_step", lambda *_, **__: step)
    with pytest.raises(NonFiniteError, match="The loss of the trained model is nan after step 10"):
        train(settings(method="lora"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["rose", "full"])
def test_a_base_that_holds_nan_is_named_before_training(
    settings: Settings, tiny_model_folder: Path, tmp_path: Path, method: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model_folder, base)
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        NonFiniteError, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN or infinity in .*base, before"
    ):
        train(settings(model=str(base), method=method))
    assert not (tmp_path / "out").exists()


def test_an_update_that_no_delta_can_hold_is_refused_before_training(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NonFiniteError("the scale inf is not a finite float32.")

    monkeypatch.setattr("roselora.training.artifacts.layer_factors", refuse)
    steps: list[int] = []
    with pytest.raises(NonFiniteError, match="scale"):
        train(settings(), on_step=lambda report: steps.append(report.step))
    assert not steps
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_the_tensor_that_is_not_finite_is_named_in_every_dtype(dtype: torch.dtype) -> None:
    whole, spoilt = torch.ones(3, 5), torch.ones(7)
    spoilt[2] = float("nan")
    numbers = [("counts", torch.ones(2, dtype=torch.int64)), ("empty", torch.ones(0)), ("whole", whole.to(dtype))]
    require_finite(numbers, "here")
    with pytest.raises(NonFiniteError, match="spoilt holds NaN or infinity here"):
        require_finite([*numbers, ("spoilt", spoilt.to(dtype))], "here")


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_infinities_of_both_signs_are_found(value: float) -> None:
    with pytest.raises(NonFiniteError, match="w holds"):
        require_finite([("w", torch.tensor([0.0, value]))], "here")


def test_a_run_whose_every_step_was_skipped_is_an_error(tmp_path: Path) -> None:
    # Under a GradScaler the parameters stay finite, since steps of gradients that are not are left out.
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    callback, control = FiniteCallback(), TrainerControl()
    on_the_way, at_the_end = TrainerState(global_step=3, max_steps=10), TrainerState(global_step=10, max_steps=10)
    callback.on_log(arguments, on_the_way, control, logs={"loss": float("nan")})
    callback.on_log(arguments, at_the_end, control, logs={"loss": 1.0})
    with pytest.raises(NonFiniteError, match="The training loss is nan after step 10"):
        callback.on_log(arguments, at_the_end, control, logs={"loss": float("nan")})
