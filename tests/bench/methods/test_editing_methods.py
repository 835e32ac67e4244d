"""What every method promises, whatever it is: one test for all rows."""

import inspect
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods.editing_methods import METHODS
from roselora.errors import ConfigError, NonFiniteError, RoseLoraError
from tests.bench.methods.editing import FRANCE, GOLD, Before, ask, edit

# A name read byte by byte has no key at its last token, so test_locate_then_edit tries ROME and its kin on words.
OF_BYTES = [name for name in METHODS if name not in ("rome", "memit", "alphaedit")]
CHANGE_NOTHING = ("no-edit", "fact-in-prompt")
every_method = pytest.mark.parametrize("name", OF_BYTES)
every_editing_method = pytest.mark.parametrize("name", [name for name in OF_BYTES if name not in CHANGE_NOTHING])


@every_method
def test_the_edited_model_says_the_target_by_itself_and_undo_puts_every_byte_back(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    world_model.model.layers[0].mlp.requires_grad_(False)
    before = Before(world_model)
    assert ask(world_model, tiny_tokenizer, FRANCE) == ["Paris."]

    applied = edit(name, world_model, tiny_tokenizer, FRANCE)
    assert ask(world_model, tiny_tokenizer, FRANCE) == ["Paris." if name in CHANGE_NOTHING else "Rome."]
    assert applied.requests == (FRANCE,)
    assert applied.entries == sum(before.changed(world_model).values())
    assert before.state_is_the_same(world_model)

    applied.undo()
    assert before.changed(world_model) == {}
    assert before.state_is_the_same(world_model)
    assert ask(world_model, tiny_tokenizer, FRANCE) == ["Paris."]


@every_editing_method
def test_calls_one_after_another_are_undone_newest_first(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    base = Before(world_model)
    first = edit(name, world_model, tiny_tokenizer, FRANCE)
    between, said = Before(world_model), ask(world_model, tiny_tokenizer, FRANCE, GOLD)
    second = edit(name, world_model, tiny_tokenizer, GOLD, history=(first,))
    assert ask(world_model, tiny_tokenizer, GOLD) == ["Fe."]
    second.undo()
    assert between.changed(world_model) == {}
    assert ask(world_model, tiny_tokenizer, FRANCE, GOLD) == said
    first.undo()
    assert base.changed(world_model) == {}
    assert ask(world_model, tiny_tokenizer, FRANCE, GOLD) == ["Paris.", "Au."]


@every_editing_method
def test_one_call_serves_several_requests(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(world_model)
    told: list[tuple[int, int]] = []
    applied = edit(
        name, world_model, tiny_tokenizer, FRANCE, GOLD, on_progress=lambda done, of: told.append((done, of))
    )
    assert applied.entries == sum(before.changed(world_model).values())
    first_pass = told[: told[0][1]]
    assert [done for done, _ in first_pass] == list(range(1, len(first_pass) + 1))
    france, gold = ask(world_model, tiny_tokenizer, FRANCE, GOLD)
    assert gold == "Fe."
    assert france == "Rome." or name == "rose-published"  # which holds no earlier edit still
    applied.undo()
    assert before.changed(world_model) == {}


@every_editing_method
def test_an_error_midway_leaves_every_byte_as_it_was(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, said = Before(world_model), ask(world_model, tiny_tokenizer, FRANCE)
    step, steps = torch.optim.Adam.step, [0]

    def interrupted(self: torch.optim.Adam, *arguments: object) -> object:
        steps[0] += 1
        if steps[0] == 3:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        edit(name, world_model, tiny_tokenizer, FRANCE)
    assert before.changed(world_model) == {}
    assert before.state_is_the_same(world_model)
    assert ask(world_model, tiny_tokenizer, FRANCE) == said


@every_editing_method
def test_a_loss_that_is_not_finite_is_an_error_and_changes_nothing(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.no_grad():
        world_model.model.norm.weight[0] = torch.nan
    before = Before(world_model)
    with pytest.raises(NonFiniteError):
        edit(name, world_model, tiny_tokenizer, FRANCE)
    assert before.changed(world_model) == {}
    assert before.state_is_the_same(world_model)


@every_editing_method
def test_no_requests_are_refused(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ConfigError, match="no edit requests"):
        edit(name, world_model, tiny_tokenizer)


@every_editing_method
def test_the_same_seed_gives_the_same_edit(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    runs, seed = [], {} if name.startswith("gate") else {"seed": 5}
    for noise in (1, 2):
        torch.manual_seed(noise)
        applied = edit(name, world_model, tiny_tokenizer, FRANCE, GOLD, **seed)
        runs.append((Before(world_model), applied.memory))
        applied.undo()
    assert all(torch.equal(value, runs[1][0].tensors[key]) for key, value in runs[0][0].tensors.items())
    assert all(torch.equal(value, runs[1][1][key]) for key, value in runs[0][1].items())


@every_method
def test_a_row_has_the_one_signature_and_a_frozen_config_with_a_seed_where_anything_is_random(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert next(iter(inspect.signature(method.edit).parameters)) == "call"
    assert is_dataclass(method.config)
    assert type(method.config).__dataclass_params__.frozen
    assert name in CHANGE_NOTHING or name.startswith("gate") or replace(method.config, seed=3).seed == 3


def test_grace_has_no_batch_size_since_it_trains_each_prompt_by_itself() -> None:
    assert "batch_size" not in {field.name for field in fields(METHODS["grace"].config)}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ft-l", {"norm_bound": 0.0}),
        ("ft-m", {"learning_rate": 0.0}),
        ("ft-m", {"depth": 1.5}),
        ("ft-m", {"layer": -1}),
        ("locft-bf", {"epochs": 0}),
        ("locft-bf", {"batch_size": 0}),
        ("locft-bf", {"stop_loss": float("nan")}),
        ("lora", {"rank": 0}),
        ("lora", {"dropout": 1.0}),
        ("adalora", {"first_rank": 4}),
        ("adalora", {"warmup": 0.6, "last": 0.5}),
        ("grace", {"radius": 0.0}),
    ],
)
def test_a_setting_that_cannot_work_is_named(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        replace(METHODS[name].config, **settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ft-m", {"layer": 2}),
        ("ft-m", {"layer": 2, "module": "mlp.up_proj"}),
        ("ft-m", {"module": "mlp.sideways"}),
        ("grace", {"module": "input_layernorm"}),
        ("lora", {"target_modules": ("sideways",)}),
        ("adalora", {"epochs": 1}),
    ],
)
def test_a_place_or_budget_that_this_model_does_not_have_is_refused_and_nothing_changes(
    name: str, settings: dict[str, object], world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(world_model)
    with pytest.raises(RoseLoraError):
        edit(name, world_model, tiny_tokenizer, FRANCE, **settings)
    assert before.changed(world_model) == {}
    assert before.state_is_the_same(world_model)


@pytest.mark.parametrize("name", ["ft-l", "ft-m", "locft-bf", "lora", "adalora", "grace", "rose"])
def test_bf16_models_are_edited_and_restored_too(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = world_model.to(torch.bfloat16)
    before = Before(model)
    applied = edit(name, model, tiny_tokenizer, FRANCE)
    assert ask(model, tiny_tokenizer, FRANCE) == ["Rome."]
    applied.undo()
    assert before.changed(model) == {}
