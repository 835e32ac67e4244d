"""What TRL's trainers do around training: configs, reference adapters, casts, resume, early stop, best checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
)

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.density_check import verify
from roselora.errors import SparsityError
from tests.adapter.agreement import assert_same, factors

datasets = pytest.importorskip("datasets")
trl = pytest.importorskip("trl")

Check = Callable[..., None]
Make = Callable[..., Trainer]
STACKS = {"SFTTrainer": (trl.SFTTrainer, trl.SFTConfig), "DPOTrainer": (trl.DPOTrainer, trl.DPOConfig)}
TEXTS = [{"text": f"{number} is {'odd' if number % 2 else 'even'}"} for number in range(20)]
PAIRS = [{"prompt": f"{number} is", "chosen": " odd", "rejected": " even"} for number in range(20)]
each_stack = pytest.mark.parametrize("stack", STACKS)


def config(**changes: Any) -> RoseLoraConfig:
    settings = {"r": 4, "lora_alpha": 8, "density": 0.25, "warmup": 2, "ramp": 5, "lora_dropout": 0.1}
    return RoseLoraConfig(**settings | {"target_modules": ["q_proj", "down_proj"]} | changes)


@pytest.fixture
def base(tiny_model: Callable[..., LlamaForCausalLM]) -> Callable[[], LlamaForCausalLM]:
    return lambda: tiny_model(initializer_range=0.1, num_hidden_layers=1)


@pytest.fixture
def adapted(base: Callable[[], LlamaForCausalLM]) -> Callable[[], PeftModel]:
    def build() -> PeftModel:
        torch.manual_seed(42)  # as TRL does, before it makes an adapter from a config
        return get_peft_model(base(), config())

    return build


@pytest.fixture
def make(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Make:
    def build(stack: str, model: Any, **changes: Any) -> Trainer:
        extras = {key: changes.pop(key) for key in ("peft_config", "callbacks") if key in changes}
        kind, arguments = STACKS[stack]
        settings = {
            "output_dir": str(tmp_path / stack),
            "max_steps": 10,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-2,
            "bf16": False,
            "activation_checkpointing": False,
            "use_cpu": True,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            **changes,
        }
        data = datasets.Dataset.from_list(TEXTS if stack == "SFTTrainer" else PAIRS)
        return kind(
            model,
            args=arguments(**settings),
            train_dataset=data,
            eval_dataset=data.select(range(4)),
            processing_class=tiny_tokenizer,
            **extras,
        )

    return build


@each_stack
def test_a_peft_config_is_honoured_as_a_ready_model_is(
    base: Callable[[], Any],
    adapted: Callable[[], PeftModel],
    make: Make,
    assert_at_density: Check,
    stack: str,
) -> None:
    by_config = make(stack, base(), peft_config=config())
    by_config.train()
    ready = make(stack, adapted())
    ready.train()
    assert_at_density(by_config.model)
    assert_same(factors(by_config.model), factors(ready.model))


def test_dpo_leaves_its_reference_adapter_as_it_was(
    adapted: Callable[[], PeftModel], make: Make, assert_at_density: Check
) -> None:
    model = adapted()
    start = factors(model)
    make("DPOTrainer", model).train()
    assert_same(start, factors(model, "ref"))
    assert_at_density(model)


def test_dpo_refers_to_the_base_where_it_makes_the_adapter_itself(base: Callable[[], Any], make: Make) -> None:
    run = make("DPOTrainer", base(), peft_config=config())
    assert list(run.model.peft_config) == ["default"]
    run.train()
    assert verify(run.model).density == 0.25


@each_stack
def test_resume_in_mid_ramp_is_bit_exact(adapted: Callable[[], PeftModel], make: Make, stack: str) -> None:
    whole, resumed = adapted(), adapted()
    run = make(stack, whole, save_strategy="steps", save_steps=5)
    run.train()
    make(stack, resumed).train(resume_from_checkpoint=f"{run.args.output_dir}/checkpoint-5")
    assert_same(factors(whole), factors(resumed))


class StopAt5(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 5


@each_stack
def test_a_run_that_stops_before_its_density_is_an_error(
    adapted: Callable[[], PeftModel], make: Make, stack: str
) -> None:
    with pytest.raises(SparsityError, match="not at its density"):
        make(stack, adapted(), callbacks=[StopAt5()]).train()


@each_stack
@pytest.mark.parametrize("best", ["first", "last"])
def test_the_best_checkpoint_must_be_one_at_the_density(
    adapted: Callable[[], PeftModel], make: Make, assert_at_density: Check, stack: str, best: str
) -> None:
    model = adapted()
    run = make(
        stack,
        model,
        save_strategy="steps",
        save_steps=5,
        eval_strategy="steps",
        eval_steps=5,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=best == "first",  # the loss falls
    )
    if best == "first":
        with pytest.raises(SparsityError, match="not at its density"):
            run.train()
    else:
        run.train()
        assert_at_density(model)
    assert run.state.best_model_checkpoint.endswith("checkpoint-5" if best == "first" else "checkpoint-10")


@each_stack
@pytest.mark.parametrize("bits", [4, 8])
def test_the_bf16_adapter_that_trl_makes_on_a_quantized_base_ends_sparse(
    tiny_model: Callable[..., LlamaForCausalLM],
    make: Make,
    assert_at_density: Check,
    tmp_path: Path,
    stack: str,
    bits: int,
) -> None:
    pytest.importorskip("bitsandbytes")
    tiny_model(hidden_size=64, intermediate_size=128, num_hidden_layers=1).save_pretrained(tmp_path / "base")
    settings = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", quantization_config=settings, device_map="cpu")
    run = make(stack, base, peft_config=config())
    run.train()
    assert {factor.dtype for factor in factors(run.model)} == {torch.bfloat16}
    assert_at_density(run.model)
