"""C is the plain mean of k kᵀ over every token of a text, once; and what was computed is found again."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods import covariance as module
from roselora.bench.methods.covariance import covariance
from roselora.errors import ConfigError

DOWN = ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("Snow is white and coal is black. " * 70)  # 2310 bytes: 9 windows and a rest
    return path


def naive(model: LlamaForCausalLM, ids: list[int], name: str) -> Tensor:
    total = torch.zeros(64, 64, dtype=torch.float64)

    def add(_: object, arguments: tuple[Tensor], __: object) -> None:
        for key in arguments[0][0].double():
            total.add_(torch.outer(key, key))

    handle = model.get_submodule(name).register_forward_hook(add)
    for start in range(0, len(ids), module.WINDOW):
        with torch.no_grad():
            model(input_ids=torch.tensor([ids[start : start + module.WINDOW]]))
    handle.remove()
    return total / len(ids)


def test_it_is_the_naive_sum_over_every_token(
    tiny_model: Callable[..., LlamaForCausalLM], tiny_tokenizer: PreTrainedTokenizerFast, text: Path
) -> None:
    model = tiny_model()
    seen: list[tuple[int, int]] = []
    found = covariance(
        model, tiny_tokenizer, DOWN, text, tokens=2200, cache=None, on_progress=lambda *at: seen.append(at)
    )
    ids = tiny_tokenizer(text.read_text()).input_ids[:2200]
    for name in DOWN:
        torch.testing.assert_close(found[name].double(), naive(model, ids, name), rtol=1e-5, atol=1e-7)
        assert found[name].dtype == torch.float32
    assert seen == [(2048, 2200), (2200, 2200)]


def test_the_cache_is_used_and_another_text_number_or_model_is_measured_anew(
    tiny_model: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = tmp_path / "cache"
    measured: list[list[str]] = []
    measure = module._measure

    def spy(model: LlamaForCausalLM, modules: list[str], *rest: object) -> dict[str, Tensor]:
        measured.append(modules)
        return measure(model, modules, *rest)

    monkeypatch.setattr(module, "_measure", spy)
    first = covariance(tiny_model(), tiny_tokenizer, DOWN[:1], text, tokens=500, cache=cache)
    again = covariance(tiny_model(), tiny_tokenizer, DOWN, text, tokens=500, cache=cache)
    assert measured == [DOWN[:1], DOWN[1:]]
    assert torch.equal(first[DOWN[0]], again[DOWN[0]])
    assert len(list(cache.iterdir())) == 2
    covariance(tiny_model(), tiny_tokenizer, DOWN, text, tokens=501, cache=cache)
    covariance(tiny_model(seed=1), tiny_tokenizer, DOWN, text, tokens=500, cache=cache)
    text.write_text("Another text of some length. " * 30)
    changed = covariance(tiny_model(), tiny_tokenizer, DOWN, text, tokens=500, cache=cache)
    assert measured[2:] == [DOWN] * 3
    assert not torch.equal(changed[DOWN[0]], first[DOWN[0]])


def test_a_damaged_cache_file_is_made_anew(
    tiny_model: Callable[..., LlamaForCausalLM], tiny_tokenizer: PreTrainedTokenizerFast, text: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    first = covariance(tiny_model(), tiny_tokenizer, DOWN[:1], text, tokens=300, cache=cache)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    again = covariance(tiny_model(), tiny_tokenizer, DOWN[:1], text, tokens=300, cache=cache)
    assert torch.equal(first[DOWN[0]], again[DOWN[0]])
    assert file.read_bytes() == whole


def test_texts_that_cannot_serve_are_named(
    tiny_model: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
    text: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(ConfigError, match=r"missing\.txt cannot be read"):
            covariance(tiny_model(), tiny_tokenizer, DOWN, tmp_path / "missing.txt", tokens=9, cache=cache)
        with pytest.raises(ConfigError, match=r"empty\.txt for the covariance is empty"):
            covariance(tiny_model(), tiny_tokenizer, DOWN, empty, tokens=9, cache=cache)
    with pytest.raises(ConfigError, match="at least one token, not 0"):
        covariance(tiny_model(), tiny_tokenizer, DOWN, text, tokens=0, cache=None)
    with caplog.at_level(logging.WARNING):
        covariance(tiny_model(), tiny_tokenizer, DOWN, text, tokens=640, cache=None)
        assert not caplog.records
        covariance(tiny_model(), tiny_tokenizer, DOWN, text, tokens=639, cache=None)
    assert "64 dimensions comes from 639 tokens: give a text of 640 or more" in caplog.text
