"""A model small enough to train in milliseconds, and a batch for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.factors import factor_pairs

STEPS = 10
SETTINGS: dict[str, Any] = {
    "r": 4,
    "lora_alpha": 8,
    "density": 0.25,
    "warmup": 2,
    "ramp": 5,
    "target_modules": ["q_proj", "down_proj"],
}


@pytest.fixture
def base_model() -> Callable[[], LlamaForCausalLM]:
    def build() -> LlamaForCausalLM:
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=64,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                max_position_embeddings=32,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            )
        )

    return build


@pytest.fixture
def adapted_model(base_model: Callable[[], LlamaForCausalLM]) -> Callable[..., PeftModel]:
    def build(**changes: Any) -> PeftModel:
        settings = {**SETTINGS, "total_steps": STEPS, **changes}
        base = base_model()
        torch.manual_seed(1)
        return get_peft_model(base, RoseLoraConfig(**settings))

    return build


@pytest.fixture
def token_ids() -> Tensor:
    return torch.randint(3, 64, (8, 6), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def train(token_ids: Tensor) -> Callable[..., None]:
    """A plain loop of one optimizer."""

    def run(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> None:
        for _ in range(steps):
            model(input_ids=token_ids, labels=token_ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


@pytest.fixture
def assert_at_density() -> Callable[..., None]:
    """Counts the entries one by one, without verify() or our own rule for k; never passes an untrained adapter."""

    def check(model: torch.nn.Module, density: float = SETTINGS["density"], adapter: str = "default") -> None:
        trained = False
        for pair in factor_pairs(model, adapter):
            rows, columns = pair.a.detach().flatten(1).tolist(), pair.b.detach().flatten(1).T.tolist()
            for row in rows:
                assert sum(entry != 0 for entry in row) == max(1, int(density * len(row)))
            for column in columns:
                assert sum(entry != 0 for entry in column) <= max(1, int(density * len(column)))
                trained = trained or any(column)
        assert trained

    return check
