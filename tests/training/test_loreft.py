"""LoReFT against its equation, position by position, and through training, saving and generation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from roselora.errors import ConfigError, ModelError
from roselora.models import load
from roselora.models.task_heads import classifier
from roselora.training.loreft import (
    NAME,
    WEIGHTS,
    Intervention,
    LoReftConfig,
    add_loreft,
    load_loreft,
    prompt_ends,
    save_loreft,
)
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import Finished, train

Settings = Callable[..., TrainSettings]
CONFIG = LoReftConfig(rank=2, first=2, last=1)


def test_an_intervention_is_the_papers_equation_on_a_subspace_with_orthonormal_rows() -> None:
    torch.manual_seed(0)
    intervention, state = Intervention(6, 2), torch.randn(6)
    rotation, source = intervention.rotation.weight.detach(), intervention.source.requires_grad_(False)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(2), atol=1e-5, rtol=0)
    by_hand = torch.tensor(
        [
            state[i]
            + sum(rotation[k, i] * (source.weight[k] @ state + source.bias[k] - rotation[k] @ state) for k in range(2))
            for i in range(6)
        ]
    )
    torch.testing.assert_close(intervention(state[None])[0], by_hand)
    assert intervention(state[None].bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("prompt", "begins", "ends"),
    [
        ([1, 1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0]),
        ([0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]),  # padded on the left
        ([1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]),  # at most one half each
        ([1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_a_prompts_ends_are_counted_without_padding(prompt: list[int], begins: list[int], ends: list[int]) -> None:
    first, last = prompt_ends(torch.tensor([prompt], dtype=torch.bool), 2, 1)
    assert first[0].int().tolist() == begins
    assert last[0].int().tolist() == ends


@pytest.fixture
def adapted(tiny_model_folder: Path) -> Any:
    """The tiny model with interventions that move every state they reach."""
    torch.manual_seed(0)
    return add_loreft(load(tiny_model_folder).model, CONFIG)


def states(model: Any, **arguments: Any) -> torch.Tensor:
    """The first block's output, as the second reads it."""
    with torch.no_grad():
        return model(**arguments, output_hidden_states=True).hidden_states[1]


def test_only_the_prompts_ends_are_changed_and_a_learned_answer_is_no_prompt(
    adapted: Any, tiny_model_folder: Path
) -> None:
    tokens = torch.tensor([[5, 9, 30, 60, 7, 8]])
    labels = torch.tensor([[-100, -100, -100, -100, 7, 8]])
    base: Any = load(tiny_model_folder).model
    moved = (states(adapted, input_ids=tokens, labels=labels) - states(base, input_ids=tokens))[0].abs().amax(1) > 1e-4
    assert moved.tolist() == [True, True, False, True, False, False]
    moved = (states(adapted, input_ids=tokens) - states(base, input_ids=tokens))[0].abs().amax(1) > 1e-4
    assert moved.tolist() == [True, True, False, False, False, True]


def test_what_is_generated_is_what_whole_passes_over_the_prompt_and_answer_say(adapted: Any) -> None:
    prompt = torch.tensor([[0, 5, 9, 30, 60], [11, 12, 13, 14, 15]])
    mask = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    generated = adapted.generate(
        input_ids=prompt, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    for row, start in ((0, 1), (1, 0)):
        tokens = prompt[row, start:].tolist()
        length = len(tokens)
        for _ in range(4):
            ids = torch.tensor([tokens])
            labels = torch.tensor([[-100] * length + tokens[length:]])
            with torch.no_grad():
                tokens.append(int(adapted(input_ids=ids, labels=labels).logits[0, -1].argmax()))
        assert generated[row, start:].tolist() == tokens


def test_each_end_may_have_an_intervention_of_its_own_in_chosen_layers(tiny_model_folder: Path) -> None:
    config = LoReftConfig(rank=2, first=2, last=1, layers=(1,), shared=False)
    model: Any = add_loreft(load(tiny_model_folder).model, config)
    assert list(model.loreft.layers) == ["1"]
    assert len(model.loreft.layers["1"]) == 2
    model(input_ids=torch.tensor([[5, 9, 30, 60, 7]])).logits.sum().backward()
    assert all(part.source.weight.grad.abs().sum() > 0 for part in model.loreft.layers["1"])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (LoReftConfig(2, 1, 1, layers=(0, 99)), "no layer 99"),
        (LoReftConfig(2, 0, 0), "at least one layer and one position"),
    ],
)
def test_what_would_change_nothing_is_refused(tiny_model_folder: Path, config: LoReftConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        add_loreft(load(tiny_model_folder).model, config)


def test_it_trains_saves_its_own_parameters_alone_and_loads_to_the_same_model(
    settings: Settings, write: Callable[..., Path]
) -> None:
    data = {"train": str(write([{"prompt": "one and one make", "completion": " two"}] * 4))}  # every batch is the same
    adapter = {"first_positions": 2, "last_positions": 2}
    run = settings(method="loreft", data=data, adapter=adapter, training={"max_steps": 30})
    outcome = train(run)
    assert isinstance(outcome, Finished)
    losses = [entry["loss"] for entry in outcome.history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.01
    saved = load_file(outcome.artifacts.folder / WEIGHTS)
    assert all(name.startswith(f"{NAME}.") for name in saved)
    tokens = torch.tensor([[5, 9, 30, 60]])
    trained: Any = outcome.prepared.model
    again: Any = load_loreft(load(run.model).model, outcome.artifacts.folder)
    with torch.no_grad():
        assert torch.equal(trained.eval()(tokens).logits, again(tokens).logits)
        assert not torch.allclose(load(run.model).model(tokens).logits, again(tokens).logits, atol=1e-3)


def test_recomputed_activations_give_the_same_losses(settings: Settings, tmp_path: Path) -> None:
    losses = []
    for checkpointing in (False, True):
        training = {"gradient_checkpointing": checkpointing, "max_steps": 4}
        outcome = train(settings(method="loreft", training=training, output=str(tmp_path / str(checkpointing))))
        assert isinstance(outcome, Finished)
        losses.append([entry["loss"] for entry in outcome.history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_classifiers_head_is_trained_and_saved_with_it(tiny_model_folder: Path, tmp_path: Path) -> None:
    head = classifier(("no", "yes"))
    model: Any = add_loreft(load(tiny_model_folder, head=head).model, CONFIG)
    outside = [name for name, parameter in model.named_parameters() if parameter.requires_grad and NAME not in name]
    assert outside
    assert not any(parameter.requires_grad for parameter in model.base_model.parameters())
    save_loreft(model, tmp_path)
    again: Any = load_loreft(load(tiny_model_folder, head=head).model, tmp_path)
    tokens = torch.tensor([[5, 9, 30, 6]])
    with torch.no_grad():
        assert torch.equal(model.eval()(tokens).logits, again(tokens).logits)


def test_files_of_another_model_are_refused(adapted: Any, tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no LoReFT of this model"):
        load_loreft(load(tiny_model_folder).model, tmp_path)
    save_loreft(adapted, tmp_path)
    (tmp_path / "loreft.json").write_text('{"rank": 3, "first": 1, "last": 1, "layers": null, "shared": true}')
    with pytest.raises(ModelError, match="no LoReFT of this model"):
        load_loreft(load(tiny_model_folder).model, tmp_path)


def test_text_without_a_prompt_is_refused(settings: Settings, write: Callable[..., Path]) -> None:
    path = write([{"text": "one and two make three"}], "texts.jsonl")
    with pytest.raises(ConfigError, match="the states of a prompt"):
        train(settings(method="loreft", data={"train": str(path)}))


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 0},
        {"rank": 10**9},
        {"rank": "8"},
        {"rank": 10**400},
        {"first": None},
        {"first": -1},
        {"layers": 3},
        {"layers": ["0"]},
        {"layers": [10**9]},
        {"shared": "yes"},
    ],
)
def test_a_config_with_a_value_that_cannot_be_is_one_sentence_and_leaves_the_model(
    adapted: Any, tiny_model_folder: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    save_loreft(adapted, tmp_path)
    config = json.loads((tmp_path / "loreft.json").read_text())
    (tmp_path / "loreft.json").write_text(json.dumps({**config, **change}))
    model = load(str(tiny_model_folder)).model
    with pytest.raises(ModelError, match="holds no LoReFT of this model"):
        load_loreft(model, tmp_path)
    assert not hasattr(model, "loreft")


@pytest.mark.parametrize("name", ["loreft.json", "loreft.safetensors"])
@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "\x00", None])
def test_a_file_that_is_none_is_one_sentence(
    adapted: Any, tiny_model_folder: Path, tmp_path: Path, name: str, text: str | None
) -> None:
    save_loreft(adapted, tmp_path)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match="holds no LoReFT of this model"):
        load_loreft(load(str(tiny_model_folder)).model, tmp_path)
