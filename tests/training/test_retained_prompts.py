from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.factors import factor_pairs
from roselora.adapter.pruner import IMPORTANCE
from roselora.errors import ConfigError
from roselora.training.retained_prompts import RetentionCallback, read_prompts
from roselora.training.train_settings import RetentionSettings, TrainSettings
from roselora.training.training_run import Finished, train

PROMPTS = ["Snow is", "The opposite of up is"]


def adapted(model: Any) -> Any:
    torch.manual_seed(1)
    config = RoseLoraConfig(r=4, density=0.25, warmup=0, ramp=2, total_steps=10, target_modules=["v_proj", "down_proj"])
    peft_model = get_peft_model(model, config)
    with torch.no_grad():
        for pair in factor_pairs(peft_model, "default"):
            torch.nn.init.normal_(pair.b, std=0.1)
    return peft_model


def naive_divergence(model: Any, tokenizer: Any) -> Tensor:
    """KL(base || adapted), prompt by prompt without padding, averaged over all tokens."""
    total, tokens = torch.zeros(()), 0
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad(), model.disable_adapter():
            base = model(ids).logits[0].softmax(-1)
        log_adapted = model(ids).logits[0].log_softmax(-1)
        total = total + (base * (base.log() - log_adapted)).sum()
        tokens += ids.shape[1]
    return total / tokens


def test_the_importance_is_the_tasks_sensitivity_less_that_of_the_divergence(
    world_model: Any, tiny_tokenizer: Any
) -> None:
    model = adapted(world_model)
    retention = RetentionCallback(model, tiny_tokenizer, PROMPTS, RetentionSettings(weight=0.5))
    parameters = [factor for pair in factor_pairs(model, "default") for factor in (pair.a, pair.b)]
    divergence = naive_divergence(model, tiny_tokenizer)
    harms = [
        (p.detach() * g).abs() for p, g in zip(parameters, torch.autograd.grad(divergence, parameters), strict=True)
    ]
    ids = tiny_tokenizer("Coal is white.", return_tensors="pt").input_ids
    model(input_ids=ids, labels=ids).loss.backward()
    uses = [(p.detach() * p.grad).abs() for p in parameters]
    measured = retention.look(0)
    assert measured == pytest.approx(float(divergence.detach()), rel=1e-4)
    assert measured > 0
    assert all(p.grad is not None for p in parameters)
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    optimizer.step()
    for parameter, use, harm in zip(parameters, uses, harms, strict=True):
        torch.testing.assert_close(optimizer.state[parameter][IMPORTANCE], use - 0.5 * harm, rtol=1e-3, atol=1e-7)


def test_looking_changes_neither_mode_nor_gradients(world_model: Any, tiny_tokenizer: Any) -> None:
    model = adapted(world_model).train()
    RetentionCallback(model, tiny_tokenizer, PROMPTS, RetentionSettings()).look(0)
    assert model.training
    assert all(pair.a.grad is None and pair.a.requires_grad for pair in factor_pairs(model, "default"))
    assert not any(p.requires_grad for name, p in model.named_parameters() if "lora_" not in name)


def divergence_after(settings: TrainSettings, tokenizer: Any) -> float:
    outcome = train(settings)
    assert isinstance(outcome, Finished)
    return float(naive_divergence(outcome.prepared.model.eval(), tokenizer).detach())


def test_a_run_with_retention_moves_less_on_its_prompts(
    world_model: Any,
    tiny_tokenizer: Any,
    tmp_path: Path,
    settings: Callable[..., TrainSettings],
    write: Callable[..., Path],
) -> None:
    folder = tmp_path / "world"
    world_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    (tmp_path / "keep.txt").write_text("\n".join(PROMPTS) + "\n\n")
    changes: dict[str, Any] = {
        "model": str(folder),
        "data": {"train": str(write([{"prompt": "The capital of France is", "completion": " Lyon."}] * 4))},
        "training": {"max_steps": 30, "learning_rate": 3e-3},
    }
    free = divergence_after(settings(output=str(tmp_path / "free"), **changes), tiny_tokenizer)
    keep = {"prompts": str(tmp_path / "keep.txt"), "weight": 3.0}
    held = divergence_after(settings(output=str(tmp_path / "held"), retention=keep, **changes), tiny_tokenizer)
    assert held < 0.8 * free


def test_prompts_come_from_text_or_from_records(tmp_path: Path, write: Callable[..., Path]) -> None:
    (tmp_path / "keep.txt").write_text("one\n\n two \n")
    assert read_prompts(str(tmp_path / "keep.txt")) == ["one", " two "]
    assert read_prompts(str(write([{"prompt": "a", "n": 1}, {"prompt": "b", "n": 2}]))) == ["a", "b"]
    with pytest.raises(ConfigError, match="neither prompt nor text"):
        read_prompts(str(write([{"n": 1}], "numbers.jsonl")))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ConfigError, match="holds no prompts"):
        read_prompts(str(tmp_path / "empty.txt"))


def test_a_model_without_a_rose_adapter_is_refused(world_model: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="one RoseLoRA adapter"):
        RetentionCallback(world_model, tiny_tokenizer, PROMPTS, RetentionSettings())
