"""Every optimizer: sparse at the end, one step counted for each step made, and a resume that loses nothing."""

import copy
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments
from transformers.optimization import Adafactor

from roselora.adapter.factors import factor_pairs
from roselora.adapter.pruner import IMPORTANCE, STEP
from roselora.adapter.trainer_callback import RoseLoraCallback
from roselora.errors import UnsupportedError
from tests.adapter.agreement import assert_same, factors, trainable

Build = Callable[..., PeftModel]
Train = Callable[..., None]
Check = Callable[..., None]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]

has_bitsandbytes = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(not has_bitsandbytes, reason="no bitsandbytes")

TORCH = {
    "SGD": {"momentum": 0.9},
    "Adam": {},
    "AdamW": {"fused": True},
    "NAdam": {},
    "RAdam": {},
    "Adamax": {},
    "Adadelta": {},
    "Adagrad": {},
    "RMSprop": {},
    "Rprop": {},
    "ASGD": {},
    "Adafactor": {},
    "Muon": {},
}
BITSANDBYTES = {
    "Adam8bit": {"min_8bit_size": 1},
    "AdamW8bit": {"min_8bit_size": 1},
    "PagedAdamW8bit": {"min_8bit_size": 1},
    "Lion8bit": {"min_8bit_size": 1},
    "RMSprop8bit": {"min_8bit_size": 1},
    "SGD8bit": {"min_8bit_size": 1, "momentum": 0.9},
    "AdEMAMix8bit": {},
    "AdamW": {},
}


def torch_optimizer(name: str) -> MakeOptimizer:
    return lambda parameters: getattr(torch.optim, name)(parameters, lr=1e-2, **TORCH[name])


def bitsandbytes_optimizer(name: str) -> MakeOptimizer:
    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        import bitsandbytes

        optimizer: Optimizer = getattr(bitsandbytes.optim, name)(parameters, lr=1e-2, **BITSANDBYTES[name])
        return optimizer

    return make


def fixed_adafactor(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return Adafactor(parameters, lr=1e-2, relative_step=False, scale_parameter=False)


OPTIMIZERS = [
    *(pytest.param(torch_optimizer(name), id=f"torch-{name}") for name in TORCH),
    pytest.param(fixed_adafactor, id="transformers-Adafactor"),
    *(pytest.param(bitsandbytes_optimizer(name), id=f"bnb-{name}", marks=needs_bitsandbytes) for name in BITSANDBYTES),
]


def assert_counted(model: nn.Module, states: Mapping[Tensor, Mapping[str, Any]]) -> None:
    for pair in factor_pairs(model, "default"):
        assert states[pair.a][STEP] == states[pair.b][STEP] == 10


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_every_optimizer_ends_sparse_and_resumes_bit_exact_in_mid_ramp(
    adapted_model: Build, train: Train, assert_at_density: Check, tmp_path: Path, make: MakeOptimizer
) -> None:
    whole = adapted_model()
    resumed = copy.deepcopy(whole)
    optimizer = make(trainable(whole))
    train(whole, optimizer, steps=5)
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.pt")
    train(whole, optimizer, steps=5)
    assert_counted(whole, optimizer.state)
    assert_at_density(whole)

    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed.load_state_dict(checkpoint["model"])
    again = make(trainable(resumed))
    again.load_state_dict(checkpoint["optimizer"])
    train(resumed, again, steps=5)
    assert_counted(resumed, again.state)
    assert_same(factors(whole), factors(resumed))


def test_lbfgs_ends_sparse(adapted_model: Build, token_ids: Tensor, assert_at_density: Check) -> None:
    model = adapted_model()
    optimizer = torch.optim.LBFGS(trainable(model), lr=0.1, max_iter=2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(input_ids=token_ids, labels=token_ids).loss
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)
    assert_counted(model, optimizer.state)
    assert_at_density(model)


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_average_of_an_8_bit_optimizer_is_fp32(adapted_model: Build, train: Train, dtype: torch.dtype) -> None:
    model = adapted_model().to(dtype)
    optimizer = bitsandbytes_optimizer("AdamW8bit")(trainable(model))
    train(model, optimizer)
    pair = factor_pairs(model, "default")[0]
    assert pair.a.dtype == dtype
    assert optimizer.state[pair.a]["state1"].dtype == torch.uint8
    assert optimizer.state[pair.a][IMPORTANCE].dtype == torch.float32


def test_a_bf16_adapter_resumes_with_its_average_rounded_to_bf16(
    adapted_model: Build, train: Train, assert_at_density: Check
) -> None:
    whole = adapted_model().to(torch.bfloat16)
    resumed = copy.deepcopy(whole)
    optimizer = torch.optim.Adam(trainable(whole), lr=1e-2)
    train(whole, optimizer, steps=5)
    resumed.load_state_dict(whole.state_dict())
    again = torch.optim.Adam(trainable(resumed), lr=1e-2)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for left, right in zip(trainable(whole), trainable(resumed), strict=True):
        torch.testing.assert_close(
            again.state[right][IMPORTANCE].float(), optimizer.state[left][IMPORTANCE], rtol=2**-8, atol=0
        )
    train(resumed, again, steps=5)
    assert_counted(resumed, again.state)
    assert_at_density(resumed)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_step_equals_the_plain_one(
    adapted_model: Build, train: Train, token_ids: Tensor, backend: str
) -> None:
    compiled, plain = adapted_model(), adapted_model()
    train(plain, torch.optim.Adam(trainable(plain), lr=1e-2))
    optimizer = torch.optim.Adam(trainable(compiled), lr=1e-2)
    step = torch.compile(optimizer.step, backend=backend)
    for _ in range(10):
        compiled(input_ids=token_ids, labels=token_ids).loss.backward()
        step()
        optimizer.zero_grad()
    assert_counted(compiled, optimizer.state)
    for ours, theirs in zip(factors(compiled), factors(plain), strict=True):
        assert torch.equal(ours != 0, theirs != 0)
        torch.testing.assert_close(ours, theirs)


def test_one_optimizer_for_a_and_one_for_b_equal_one_for_both(
    adapted_model: Build, train: Train, token_ids: Tensor
) -> None:
    together, apart = adapted_model(), adapted_model()
    train(together, torch.optim.Adam(trainable(together), lr=1e-2))
    pairs = factor_pairs(apart, "default")
    optimizers = [torch.optim.Adam([getattr(pair, side) for pair in pairs], lr=1e-2) for side in ("a", "b")]
    for _ in range(10):
        apart(input_ids=token_ids, labels=token_ids).loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert_same(factors(together), factors(apart))


def test_optimizers_that_step_during_the_backward_pass_equal_one_that_steps_after_it(
    adapted_model: Build, train: Train, token_ids: Tensor
) -> None:
    after, during = adapted_model(), adapted_model()
    train(after, torch.optim.Adam(trainable(after), lr=1e-2))
    optimizers = {parameter: torch.optim.Adam([parameter], lr=1e-2) for parameter in trainable(during)}

    def step(parameter: Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad()  # type: ignore[index]

    for parameter in optimizers:
        parameter.register_post_accumulate_grad_hook(step)
    for _ in range(10):
        during(input_ids=token_ids, labels=token_ids).loss.backward()
    assert_same(factors(after), factors(during))


def test_lora_plus_has_two_learning_rates_and_ends_sparse(
    adapted_model: Build, train: Train, assert_at_density: Check
) -> None:
    model = adapted_model()
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16)
    train(model, optimizer)
    assert_counted(model, optimizer.state)
    assert_at_density(model)


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_fp16_gradients_are_scored_as_the_optimizer_uses_them(
    adapted_model: Build, token_ids: Tensor, assert_at_density: Check, fused: bool, clipped: bool
) -> None:
    scaled, plain = adapted_model(), adapted_model()
    averages = []
    for model, scaler in (
        (scaled, torch.amp.GradScaler("cpu", init_scale=4096.0)),
        (plain, torch.amp.GradScaler("cpu", enabled=False)),
    ):
        optimizer = torch.optim.Adam(trainable(model), lr=1e-2, fused=fused)
        for step in range(11):
            if model is plain and step == 4:
                continue  # the other skips it, for it is infinite
            with torch.autocast("cpu", torch.float16):
                loss = model(input_ids=token_ids, labels=token_ids).loss
            scaler.scale(loss * (float("inf") if step == 4 else 1.0)).backward()
            if clipped:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(trainable(model), 1e-3)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        assert_counted(model, optimizer.state)
        assert_at_density(model)
        averages.append(torch.cat([optimizer.state[factor][IMPORTANCE].flatten() for factor in trainable(model)]))
    # fp16 without a scale loses small gradients, so the two are near, not equal.
    assert float(averages[0].sum()) == pytest.approx(float(averages[1].sum()), rel=0.05)


def installed(name: str, *modules: str) -> Any:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)}"))


@pytest.mark.parametrize(
    "name",
    [
        "adamw_torch",
        "adamw_torch_fused",
        "adafactor",
        "sgd",
        "adagrad",
        "rmsprop",
        installed("adamw_bnb_8bit", "bitsandbytes"),
        installed("paged_adamw_8bit", "bitsandbytes"),
        installed("lion_8bit", "bitsandbytes"),
        installed("ademamix_8bit", "bitsandbytes"),
        installed("rmsprop_bnb_8bit", "bitsandbytes"),
        installed("adamw_torch_8bit", "torchao"),
        installed("galore_adamw", "galore_torch"),
        installed("galore_adamw_layerwise", "galore_torch"),
    ],
)
def test_every_optimizer_of_the_trainer_ends_sparse(
    adapted_model: Build, token_ids: Tensor, assert_at_density: Check, tmp_path: Path, name: str
) -> None:
    model = adapted_model(total_steps=None)
    settings = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=10,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        optim=name,
        optim_target_modules=[r".*lora_[AB]\.default"] if "galore" in name else None,
        optim_args="rank=2, update_proj_gap=2" if "galore" in name else None,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    rows = [{"input_ids": row, "labels": row} for row in token_ids]
    Trainer(model, settings, train_dataset=rows).train()
    assert_at_density(model)


@pytest.mark.parametrize("name", ["lomo", "adalomo"])
def test_an_optimizer_that_steps_within_the_backward_pass_alone_is_refused_before_training(
    adapted_model: Build, tmp_path: Path, name: str
) -> None:
    settings = TrainingArguments(output_dir=str(tmp_path), optim=name, use_cpu=True)
    with pytest.raises(UnsupportedError, match=f"does not support optim='{name}'"):
        RoseLoraCallback().on_train_begin(settings, TrainerState(), TrainerControl(), model=adapted_model())
