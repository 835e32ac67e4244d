"""Every stack with every feature: ten steps over the same eight rows, against a plain loop over the same rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.optim import Optimizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.factors import factor_pairs
from roselora.adapter.pruner import STEP
from tests.adapter.agreement import assert_same, factors, trainable

datasets = pytest.importorskip("datasets")
trl = pytest.importorskip("trl")

Check = Callable[..., None]
STEPS, ROWS, LEARNING_RATE = 10, 8, 0.5
SETTINGS = {"r": 4, "lora_alpha": 8, "density": 0.25, "warmup": 2, "ramp": 5, "target_modules": ["q_proj", "down_proj"]}


@dataclass(frozen=True)
class Feature:
    """What a stack is asked to do beside ten plain steps; `same` says that it changes no result."""

    precision: str = "no"
    accumulate: int = 1
    clip: float = 0.0
    checkpointing: bool = False
    compiled: bool = False
    same: bool = True


FEATURES = {
    "fp32": Feature(),
    "bf16": Feature(precision="bf16", same=False),
    "fp16": Feature(precision="fp16", same=False),
    "accumulation": Feature(accumulate=2),
    "clipping": Feature(clip=1e-3, same=False),
    "checkpointing": Feature(checkpointing=True),
    "compiled": Feature(compiled=True),
}


# Accelerate, which the trainers stand on, mixes fp16 on a GPU only.
ON_ACCELERATE = [pytest.param(name, marks=pytest.mark.cuda) if name == "fp16" else name for name in FEATURES]


@pytest.fixture
def rows(token_ids: Tensor) -> Any:
    return datasets.Dataset.from_dict({"input_ids": token_ids.tolist(), "labels": token_ids.tolist()})


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Accelerate keeps one precision for the whole process, and dynamo counts what it compiles."""
    AcceleratorState._reset_state(True)
    torch._dynamo.reset()
    counters.clear()
    yield
    AcceleratorState._reset_state(True)


def plain_loop(model: PeftModel, token_ids: Tensor, feature: Feature) -> Optimizer:
    optimizer = torch.optim.SGD(trainable(model), lr=LEARNING_RATE)
    if feature.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    model.train()
    forward = torch.compile(model, backend="eager") if feature.compiled else model
    dtype = torch.float16 if feature.precision == "fp16" else torch.bfloat16
    scaler = torch.amp.GradScaler("cpu", enabled=feature.precision == "fp16")
    for _ in range(STEPS):
        for part in token_ids.chunk(feature.accumulate):
            with torch.autocast("cpu", dtype, enabled=feature.precision != "no"):
                loss = forward(input_ids=part, labels=part).loss / feature.accumulate
            scaler.scale(loss).backward()
        if feature.clip:
            nn.utils.clip_grad_norm_(trainable(model), feature.clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return optimizer


def accelerate_loop(model: PeftModel, token_ids: Tensor, feature: Feature) -> Optimizer:
    accelerator = Accelerator(
        cpu=feature.precision != "fp16",
        mixed_precision=feature.precision,
        gradient_accumulation_steps=feature.accumulate,
        dynamo_backend="eager" if feature.compiled else None,
    )
    if feature.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    loader = torch.utils.data.DataLoader(list(token_ids), batch_size=ROWS // feature.accumulate)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(trainable(model), lr=LEARNING_RATE), loader)
    model.train()
    for _ in range(STEPS):
        for part in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(input_ids=part, labels=part).loss)
                if feature.clip and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), feature.clip)
                optimizer.step()
                optimizer.zero_grad()
    return optimizer


def arguments(feature: Feature, folder: Path) -> dict[str, Any]:
    """The same run in the words of TrainingArguments: every step sees all eight rows."""
    return {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": ROWS // feature.accumulate,
        "gradient_accumulation_steps": feature.accumulate,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": feature.clip,
        "bf16": feature.precision == "bf16",
        "fp16": feature.precision == "fp16",
        "activation_checkpointing": feature.checkpointing,
        "torch_compile": feature.compiled,
        "torch_compile_backend": "eager" if feature.compiled else None,
        "use_cpu": feature.precision != "fp16",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def assert_counted(model: nn.Module, optimizer: Any) -> None:
    for pair in factor_pairs(model, "default"):
        assert optimizer.state[pair.a][STEP] == optimizer.state[pair.b][STEP] == STEPS


def assert_as_asked(model: nn.Module, feature: Feature) -> None:
    """The feature was really on: a stack that ignored it would pass for equal."""
    assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules()) == feature.checkpointing
    assert bool(counters["frames"]["ok"]) == feature.compiled


def assert_trained_as_asked(model: nn.Module, optimizer: Any, feature: Feature, assert_at_density: Check) -> None:
    assert_counted(model, optimizer)
    assert_as_asked(model, feature)
    assert_at_density(model)


def assert_agrees(model: nn.Module, reference: nn.Module) -> None:
    ours, theirs = factor_pairs(model, "default"), factor_pairs(reference, "default")
    for one, other in zip(ours, theirs, strict=True):
        for a, b in ((one.a, other.a), (one.b, other.b)):
            assert torch.equal(a != 0, b != 0)
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def assert_agrees_with_plain_loop(model: nn.Module, reference: PeftModel, token_ids: Tensor, feature: Feature) -> None:
    plain_loop(reference, token_ids, feature)
    assert_agrees(model, reference)


@pytest.mark.parametrize("name", FEATURES)
def test_a_plain_loop_with_every_feature(
    adapted_model: Callable[..., PeftModel], token_ids: Tensor, assert_at_density: Check, name: str
) -> None:
    feature = FEATURES[name]
    model, reference = adapted_model(), adapted_model()
    assert_trained_as_asked(model, plain_loop(model, token_ids, feature), feature, assert_at_density)
    plain_loop(reference, token_ids, Feature())
    if feature.same:
        assert_agrees(model, reference)
    else:
        with pytest.raises(AssertionError):
            assert_agrees(model, reference)


@pytest.mark.parametrize("name", ON_ACCELERATE)
def test_accelerate_with_every_feature_equals_the_plain_loop(
    adapted_model: Callable[..., PeftModel], token_ids: Tensor, assert_at_density: Check, name: str
) -> None:
    model, reference = adapted_model(), adapted_model()
    optimizer = accelerate_loop(model, token_ids, FEATURES[name])
    assert_trained_as_asked(model, optimizer, FEATURES[name], assert_at_density)
    if name != "fp16":
        assert_agrees_with_plain_loop(model, reference, token_ids, FEATURES[name])


def test_accelerate_saves_its_state_and_resumes_bit_exact_in_mid_ramp(
    adapted_model: Callable[..., PeftModel], token_ids: Tensor, tmp_path: Path
) -> None:
    def prepared() -> tuple[Accelerator, PeftModel, Any]:
        accelerator, model = Accelerator(cpu=True), adapted_model()
        return accelerator, *accelerator.prepare(model, torch.optim.AdamW(trainable(model), lr=1e-2))

    def train(accelerator: Accelerator, model: PeftModel, optimizer: Any) -> None:
        for _ in range(STEPS // 2):
            accelerator.backward(model(input_ids=token_ids, labels=token_ids).loss)
            optimizer.step()
            optimizer.zero_grad()

    accelerator, whole, optimizer = prepared()
    train(accelerator, whole, optimizer)
    accelerator.save_state(str(tmp_path))
    train(accelerator, whole, optimizer)
    accelerator, resumed, optimizer = prepared()
    accelerator.load_state(str(tmp_path))
    train(accelerator, resumed, optimizer)
    assert_counted(resumed, optimizer)
    assert_same(factors(whole), factors(resumed))


@pytest.mark.parametrize("name", ON_ACCELERATE)
def test_trainer_with_every_feature_equals_the_plain_loop(
    adapted_model: Callable[..., PeftModel],
    token_ids: Tensor,
    rows: Any,
    assert_at_density: Check,
    tmp_path: Path,
    name: str,
) -> None:
    model, reference = adapted_model(total_steps=None), adapted_model()
    run = Trainer(model, TrainingArguments(**arguments(FEATURES[name], tmp_path)), train_dataset=rows)
    run.train()
    assert_trained_as_asked(model, run.optimizer, FEATURES[name], assert_at_density)
    if name != "fp16":
        assert_agrees_with_plain_loop(model, reference, token_ids, FEATURES[name])


@pytest.mark.parametrize("name", ON_ACCELERATE)
def test_sft_trainer_with_every_feature_equals_the_plain_loop(
    adapted_model: Callable[..., PeftModel],
    token_ids: Tensor,
    rows: Any,
    tiny_tokenizer: PreTrainedTokenizerFast,
    assert_at_density: Check,
    tmp_path: Path,
    name: str,
) -> None:
    model, reference = adapted_model(total_steps=None), adapted_model()
    settings = trl.SFTConfig(**arguments(FEATURES[name], tmp_path))
    run = trl.SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tiny_tokenizer)
    run.train()
    assert_trained_as_asked(model, run.optimizer, FEATURES[name], assert_at_density)
    if name not in ("bf16", "fp16"):  # TRL computes its loss by another path than the model's own
        assert_agrees_with_plain_loop(model, reference, token_ids, FEATURES[name])


@pytest.mark.parametrize("name", ON_ACCELERATE)
def test_dpo_trainer_with_every_feature(
    tiny_model: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
    assert_at_density: Check,
    tmp_path: Path,
    name: str,
) -> None:
    def build() -> PeftModel:
        torch.manual_seed(1)
        return get_peft_model(tiny_model(initializer_range=0.1, num_hidden_layers=1), RoseLoraConfig(**SETTINGS))

    def dpo(model: PeftModel, feature: Feature) -> Trainer:
        settings = trl.DPOConfig(**arguments(feature, tmp_path))
        return trl.DPOTrainer(model, args=settings, train_dataset=preferences, processing_class=tiny_tokenizer)

    preferences = datasets.Dataset.from_list(
        [{"prompt": f"{number} is", "chosen": " odd", "rejected": " even"} for number in range(ROWS)]
    )
    feature = FEATURES[name]
    model, reference = build(), build()
    run = dpo(model, feature)
    run.train()
    assert_trained_as_asked(model, run.optimizer, feature, assert_at_density)
    if feature.same:
        dpo(reference, Feature()).train()
        assert_agrees(model, reference)
