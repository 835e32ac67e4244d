"""ROME, MEMIT and AlphaEdit change what a model says, hold the rest, and are taken back byte for byte."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods import multi_layer_edit as spread_module
from roselora.bench.methods import rome as rome_module
from roselora.bench.methods.alphaedit import AlphaEditConfig
from roselora.bench.methods.edit_method import Applied, EditCall
from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.methods.locate_then_edit import LocateConfig
from roselora.bench.methods.memit import MemitConfig
from roselora.bench.methods.rome import RomeConfig
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, EditError, NonFiniteError
from roselora.models.generation import greedy_answers

# Without a subject: a model of three layers has read it before the last word, where deeper ones still look it up.
OSLO = EditRequest("The capital of France is", "Oslo")
GERMAN = EditRequest("People in Spain speak", "German")
OTHERS = ["The capital of Germany is", "The capital of Italy is", "People in Norway speak", "People in Italy speak"]
SHORT: dict[str, Any] = {"prefixes": 0, "learning_rate": 0.1, "steps": 60, "clamp": 10.0}
CONFIGS: dict[str, LocateConfig] = {
    "rome": RomeConfig(**SHORT, layer=1),
    "memit": MemitConfig(**SHORT, layers=(0, 1), weight=0.1),
    "alphaedit": AlphaEditConfig(**SHORT, layers=(0, 1), ridge=1e-4, threshold=1e-2),
}
method = pytest.mark.parametrize("name", CONFIGS)


def set_up(name: str, text: Path | None, **changes: Any) -> tuple[Callable[..., Applied], LocateConfig]:
    """A method's function, as one of what `EditCall` takes, and its settings."""
    config = CONFIGS[name]
    settings = {**vars(config), "text": text, "cache": text and text.parent / "cache", **changes}
    return lambda *given, **named: METHODS[name].edit(EditCall(*given, **named)), type(config)(**settings)


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], model: torch.nn.Module) -> list[str]:
    return [key for key, tensor in model.state_dict().items() if not torch.equal(before[key], tensor)]


def say(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> list[str]:
    return greedy_answers(model, tokenizer, prompts, max_new_tokens=4)


@method
def test_the_model_says_the_targets_keeps_the_rest_and_is_put_back(
    name: str, word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast, word_text: Path
) -> None:
    edit, config = set_up(name, word_text)
    before, others = state(word_model), say(word_model, word_tokenizer, OTHERS)
    assert say(word_model, word_tokenizer, [OSLO.prompt, GERMAN.prompt]) == ["Paris", "Spanish"]
    told: list[tuple[int, int]] = []
    applied = edit(
        word_model, word_tokenizer, [OSLO, GERMAN], config, on_progress=lambda done, of: told.append((done, of))
    )
    assert told == [(1, 2), (2, 2)]
    assert say(word_model, word_tokenizer, [OSLO.prompt, GERMAN.prompt]) == ["Oslo", "German"]
    assert say(word_model, word_tokenizer, OTHERS) == others
    layers = (1,) if name == "rome" else (0, 1)
    assert moved(before, word_model) == [f"model.layers.{layer}.mlp.down_proj.weight" for layer in layers]
    now = word_model.state_dict()
    assert applied.entries == sum(int((now[key] != before[key]).sum()) for key in before) > 0
    assert applied.requests == (OSLO, GERMAN)
    assert applied.steps > 0
    applied.undo()
    assert moved(before, word_model) == []


@method
def test_one_edit_after_another_uses_the_bases_statistics_and_both_are_undone(
    name: str,
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    word_text: Path,
) -> None:
    edit, config = set_up(name, word_text)
    before = state(word_model)
    first = edit(word_model, word_tokenizer, [OSLO], config)
    between = state(word_model)
    word_text.unlink()  # the second call must not need it
    second = edit(word_model, word_tokenizer, [GERMAN], config, [first])
    assert say(word_model, word_tokenizer, [OSLO.prompt, GERMAN.prompt]) == ["Oslo", "German"]
    statistics = [key for key in first.memory if not key.startswith("keys/")]
    assert statistics
    assert all(second.memory[key] is first.memory[key] for key in statistics)
    second.undo()
    assert moved(between, word_model) == []
    first.undo()
    assert moved(before, word_model) == []


@method
def test_without_a_text_it_works_too(
    name: str, word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    edit, config = set_up(name, None)
    edit(word_model, word_tokenizer, [OSLO], config)
    assert say(word_model, word_tokenizer, [OSLO.prompt]) == ["Oslo"]


@method
def test_an_error_midway_puts_everything_back(
    name: str,
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edit, config = set_up(name, None)
    before = state(word_model)
    for module in (rome_module, spread_module):
        real, calls = module.add_to, []

        def fail_second(layer: Any, update: torch.Tensor, real: Any = real, calls: list[int] = calls) -> None:
            calls.append(1)
            if len(calls) == 2:
                assert moved(before, word_model)
                raise EditError("stopped")
            real(layer, update)

        monkeypatch.setattr(module, "add_to", fail_second)
    with pytest.raises(EditError, match="stopped"):
        edit(word_model, word_tokenizer, [OSLO, GERMAN], config)
    assert moved(before, word_model) == []


@method
def test_bf16_weights_are_rounded_once_and_put_back(
    name: str, word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast, word_text: Path
) -> None:
    edit, config = set_up(name, word_text)
    model = word_model.bfloat16()
    before = state(model)
    applied = edit(model, word_tokenizer, [OSLO], config)
    assert say(model, word_tokenizer, [OSLO.prompt]) == ["Oslo"]
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}
    applied.undo()
    assert moved(before, model) == []


@method
def test_a_conv1d_keeps_its_weight_transposed_and_is_edited_too(
    name: str, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    settings = {"vocab_size": len(word_tokenizer), "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 32}
    model = GPT2LMHeadModel(GPT2Config(**settings, initializer_range=0.2, bos_token_id=1, eos_token_id=1)).eval()
    edit, config = set_up(name, None)
    before = state(model)
    applied = edit(model, word_tokenizer, [OSLO], config)
    # It was trained on nothing, so it need not know how to stop.
    assert greedy_answers(model, word_tokenizer, [OSLO.prompt], max_new_tokens=1) == ["Oslo"]
    assert all(key.endswith("mlp.c_proj.weight") for key in moved(before, model))
    applied.undo()
    assert moved(before, model) == []


@method
def test_a_call_without_requests_is_refused(
    name: str, word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast
) -> None:
    edit, config = set_up(name, None)
    with pytest.raises(ConfigError, match="no edit requests"):
        edit(word_model, word_tokenizer, [], config)


def test_alphaedits_projection_is_kept_on_disk(
    word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast, word_text: Path, monkeypatch: Any
) -> None:
    edit, config = set_up("alphaedit", word_text)
    first = edit(word_model, word_tokenizer, [OSLO], config)
    first.undo()
    monkeypatch.setattr("roselora.bench.methods.alphaedit.null_projection", None)
    again = edit(word_model, word_tokenizer, [OSLO], config)
    key = "projection/model.layers.1.mlp.down_proj"
    assert torch.equal(first.memory[key], again.memory[key])


def test_an_update_that_is_not_finite_is_refused(
    word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, config = set_up("rome", None)
    before = state(word_model)
    monkeypatch.setattr(rome_module, "rank_one_update", lambda k, residual, C: torch.full((32, 64), torch.nan))
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        edit(word_model, word_tokenizer, [OSLO], config)
    assert moved(before, word_model) == []


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (RomeConfig, {"prefixes": -1}, "prefixes must be at least 0 and at most"),
        (RomeConfig, {"steps": 0}, "steps must be a whole number and at least 1, not 0"),
        (RomeConfig, {"learning_rate": float("nan")}, "learning_rate must be a number above 0 and at most .*, not nan"),
        (MemitConfig, {"kl_weight": -1}, "kl_weight must be a number at least 0 and at most .*, not -1"),
        (MemitConfig, {"weight": 0}, "weight must be a number above 0 and at most .*, not 0"),
        (MemitConfig, {"span": 0}, "span must be a whole number and at least 1, not 0"),
        (AlphaEditConfig, {"layers": (2, 1)}, r"layers must be indices in rising order, not \(2, 1\)"),
        (AlphaEditConfig, {"ridge": -1}, "ridge must be a number above 0 and at most .*, not -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(config: type[LocateConfig], settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**settings)


def test_memits_weight_is_by_default_the_length_of_a_key(
    word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast, word_text: Path
) -> None:
    name, found = "model.layers.1.mlp.down_proj.weight", []
    for weight in (None, 64.0, 1.0):
        edit, config = set_up("memit", word_text, weight=weight)
        applied = edit(word_model, word_tokenizer, [OSLO], config)
        found.append(word_model.get_parameter(name).detach().clone())
        applied.undo()
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_alphaedit_carries_the_keys_of_all_earlier_calls_in_its_newest_memory(
    word_model: LlamaForCausalLM, word_tokenizer: PreTrainedTokenizerFast, word_text: Path
) -> None:
    edit, config = set_up("alphaedit", word_text)
    first = edit(word_model, word_tokenizer, [OSLO], config)
    second = edit(word_model, word_tokenizer, [GERMAN], config, [first])
    name = "keys/model.layers.0.mlp.down_proj"
    assert torch.equal(second.memory[name][:1], first.memory[name])
    assert len(second.memory[name]) == 2
    whole = edit(word_model, word_tokenizer, [OSLO, GERMAN], config, [first, second])
    after = state(word_model)
    whole.undo()
    # As when a run goes on from a checkpoint, where only the newest call is left of the history.
    edit(word_model, word_tokenizer, [OSLO, GERMAN], config, [second])
    assert moved(after, word_model) == []
