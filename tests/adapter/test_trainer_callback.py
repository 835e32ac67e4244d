"""RoseLoRA under transformers' Trainer, without any call to roselora."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.density_check import verify
from roselora.adapter.factors import factor_pairs
from roselora.errors import ConfigError, SparsityError
from tests.adapter.agreement import assert_same, factors

Build = Callable[..., PeftModel]


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.rows = torch.randint(3, 64, (40, 6), generator=torch.Generator().manual_seed(3))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def trainer(model: PeftModel, folder: Path, **changes: Any) -> Trainer:
    extras = {key: changes.pop(key) for key in ("callbacks", "compute_metrics") if key in changes}
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 10,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "report_to": [],
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 0,
        **changes,
    }
    return Trainer(
        model=model, args=TrainingArguments(**arguments), train_dataset=Rows(), eval_dataset=Rows(), **extras
    )


def test_trainer_prunes_by_itself_and_sets_the_number_of_steps(adapted_model: Build, tmp_path: Path) -> None:
    model = adapted_model(total_steps=None, warmup=0.2, ramp=0.5)
    trainer(model, tmp_path).train()
    report = verify(model)
    assert all(max(matrix.row_nonzeros) == matrix.allowed_in_row for matrix in report.matrices)
    assert report.sparsity >= report.sparsity_bound > 0


def test_a_checkpoint_without_the_optimizers_state_is_refused_before_the_first_step(
    adapted_model: Build, tmp_path: Path
) -> None:
    saving = {"save_strategy": "steps", "save_steps": 5}
    trainer(adapted_model(total_steps=None), tmp_path, save_only_model=True, **saving).train()
    model = adapted_model(total_steps=None)
    resumed = trainer(model, tmp_path)
    with pytest.raises(ConfigError, match=r"resumes at step 5 .* \(save_only_model\), or by another method"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert resumed.state.global_step == 5


def test_a_run_that_was_already_finished_may_be_resumed(adapted_model: Build, tmp_path: Path) -> None:
    finished = adapted_model(total_steps=None)
    trainer(finished, tmp_path, save_strategy="steps", save_steps=10).train()
    resumed = adapted_model(total_steps=None)
    trainer(resumed, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert_same(factors(resumed), factors(finished))


def test_accumulation_and_clipping_under_trainer_end_sparse(adapted_model: Build, tmp_path: Path) -> None:
    model = adapted_model(total_steps=None)
    trainer(model, tmp_path, gradient_accumulation_steps=2, max_grad_norm=0.1).train()
    verify(model)


@pytest.mark.parametrize("stop_at", [4, 8])
def test_resume_from_a_checkpoint_is_bit_exact(adapted_model: Build, tmp_path: Path, stop_at: int) -> None:
    whole = adapted_model(total_steps=None, lora_dropout=0.1)
    trainer(whole, tmp_path, save_strategy="steps", save_steps=stop_at).train()

    resumed = adapted_model(total_steps=None, lora_dropout=0.1)
    trainer(resumed, tmp_path).train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop_at}"))
    assert_same(factors(resumed), factors(whole))


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_training_stop = True


def test_promise_12_a_run_that_stops_before_its_density_is_an_error(adapted_model: Build, tmp_path: Path) -> None:
    with pytest.raises(SparsityError, match="not at its density"):
        trainer(adapted_model(total_steps=None), tmp_path, callbacks=[StopAt(5)]).train()


def test_promise_12_a_best_checkpoint_from_before_the_target_density_is_an_error(
    adapted_model: Build, tmp_path: Path
) -> None:
    merits = iter(range(10, 0, -1))
    run = trainer(
        adapted_model(total_steps=None),
        tmp_path,
        save_strategy="steps",
        eval_strategy="steps",
        save_steps=3,
        eval_steps=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_merit",
        greater_is_better=True,
        compute_metrics=lambda _: {"merit": next(merits)},  # the first checkpoint, still dense, is "best"
    )
    with pytest.raises(SparsityError, match="not at its density"):
        run.train()


def test_promise_12_an_optimizer_that_is_not_torchs_is_an_error_never_a_silence(
    adapted_model: Build, tmp_path: Path
) -> None:
    model = adapted_model(total_steps=None)

    class Unhooked(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        if parameter.grad is not None:
                            parameter -= 0.1 * parameter.grad

        step.hooked = True  # torch takes the hooks for installed, so they never fire

    run = trainer(model, tmp_path)
    run.optimizer = Unhooked([p for p in model.parameters() if p.requires_grad], lr=0.1)
    run.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(run.optimizer)
    with pytest.raises(SparsityError, match="never pruned"):
        run.train()
    assert run.state.global_step == 0  # not after the whole run


def test_promise_12_a_ramp_longer_than_the_trainer_is_refused_before_the_first_step(
    adapted_model: Build, tmp_path: Path
) -> None:
    model = adapted_model(total_steps=100, warmup=20, ramp=50)
    before = factors(model)
    with pytest.raises(ConfigError, match="step 70"):
        trainer(model, tmp_path).train()
    assert all(torch.equal(a, b) for a, b in zip(factors(model), before, strict=True))


def test_a_frozen_adapter_may_have_a_longer_schedule_than_the_trainer(adapted_model: Build, tmp_path: Path) -> None:
    model = adapted_model(total_steps=100, warmup=20, ramp=50)
    model.add_adapter("second", RoseLoraConfig(r=4, density=0.25, target_modules=["q_proj"]))
    model.set_adapter("second")
    before = factors(model)
    trainer(model, tmp_path).train()
    assert verify(model, "second").density == 0.25
    assert all(torch.equal(a, b) for a, b in zip(factors(model), before, strict=True))


def test_a_plain_lora_adapter_trains_as_before(base_model: Callable[[], Any], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(base_model(), LoraConfig(r=4, target_modules=["q_proj"]))
    trainer(model, tmp_path).train()
    assert all(bool((pair.a != 0).all()) for pair in factor_pairs(model, "default"))


@pytest.mark.parametrize("changes", [{"lora_alpha": 1e-320}, {"lora_dropout": 0.999999}])
@pytest.mark.parametrize("warmup", [0, 2])
def test_an_adapter_whose_every_gradient_is_zero_is_refused(
    adapted_model: Build, tmp_path: Path, changes: dict[str, float], warmup: int
) -> None:
    torch.manual_seed(0)
    model = adapted_model(total_steps=None, warmup=0.2, ramp=0.5, **changes)
    with pytest.raises(ConfigError, match="Every gradient of RoseLoRA adapter 'default' is 0 at the first step"):
        trainer(model, tmp_path, warmup_steps=warmup).train()
