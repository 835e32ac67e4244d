"""Promise 10: nothing asks the network unless the user named a hub id that is not cached."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.density_check import verify
from roselora.editing.editor import Editor
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.models import load

SETTINGS = EditSettings(target_modules=("v_proj", "down_proj"), warmup=2, ramp=6, learning_rate=2e-2, keep_weight=0.1)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attempt to look up or reach another machine, each of which fails."""
    attempts: list[Any] = []

    def refuse(*arguments: Any, **options: Any) -> Any:
        attempts.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts


def test_promise_10_editing_and_every_export_ask_nobody(
    world_model: Any, tiny_tokenizer: Any, tmp_path: Path, asked: list[Any]
) -> None:
    world_model.save_pretrained(tmp_path / "world")
    tiny_tokenizer.save_pretrained(tmp_path / "world")
    editor = Editor(load(tmp_path / "world"), SETTINGS, tmp_path / "edits")
    editor.edit("The capital of France is", "Lyon")
    editor.check()
    editor.export(tmp_path / "model")
    editor.export(tmp_path / "lora", "lora")
    editor.export(tmp_path / "patch.safetensors", "patch")
    load(tmp_path / "model")
    assert asked == []


def test_promise_10_saving_and_loading_an_adapter_asks_nobody(
    world_model: Any, tiny_model: Callable[..., Any], tmp_path: Path, asked: list[Any]
) -> None:
    config = RoseLoraConfig(r=2, density=0.25, warmup=1, ramp=1, total_steps=2, target_modules=["q_proj"])
    model = get_peft_model(world_model, config)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "adapter")
    assert verify(tmp_path / "adapter").matrices
    base = tiny_model(hidden_size=64, intermediate_size=128)
    PeftModel.from_pretrained(base, tmp_path / "adapter", config=RoseLoraConfig.from_pretrained(tmp_path / "adapter"))
    assert asked == []
