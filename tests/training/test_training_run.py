"""Whole runs: what they train, what they write, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from roselora.adapter.density_check import verify
from roselora.core.pruning import kept_count
from roselora.delta.delta_file import load as load_delta
from roselora.delta.overlay import Overlay
from roselora.errors import ConfigError
from roselora.training.config_file import read_settings
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import Interrupted, train
from tests.training.runs import REVIEWS, StopAt, finished

Settings = Callable[..., TrainSettings]
Write = Callable[..., Path]


def test_a_run_leaves_a_sparse_adapter_that_stock_peft_reads_and_an_equal_delta(
    settings: Settings, tiny_model_folder: Path
) -> None:
    outcome = finished(settings())
    output = Path(outcome.settings.output)
    for name, factor in load_file(output / "adapter" / "adapter_model.safetensors").items():
        groups = factor if "lora_A" in name else factor.T
        assert 0 < max(int((group != 0).sum()) for group in groups) <= kept_count(0.25, groups.shape[1])
    assert verify(output / "adapter").sparsity == outcome.counts.sparsity > 0

    tokens = torch.tensor([[5, 9, 30, 60]])
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_folder), output / "adapter")
    merged = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    Overlay(merged).apply("trained", load_delta(output / "delta.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(merged(tokens).logits, adapted(tokens).logits, rtol=1e-4, atol=1e-4)
        base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)(tokens).logits
        assert not torch.allclose(base, adapted(tokens).logits, atol=1e-3)
    assert read_settings(output / "config.yaml") == outcome.settings
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [entry["density"] for entry in log if "density" in entry][-1] == 0.25


def test_two_runs_of_one_seed_are_equal_and_another_seed_is_not(settings: Settings, tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        outcome = finished(settings(output=str(tmp_path / str(number)), training={"seed": seed}))
        digests.append(outcome.artifacts.sha256["adapter/adapter_model.safetensors"])
    assert digests[0] == digests[1] != digests[2]


def test_loreft_is_resumed_bit_for_bit_from_a_checkpoint_that_holds_nothing_of_the_base(
    settings: Settings, tmp_path: Path
) -> None:
    whole = finished(settings(method="loreft", output=str(tmp_path / "whole")))
    stopped = settings(method="loreft", output=str(tmp_path / "stopped"))
    outcome = train(stopped, on_step=StopAt(5))
    assert isinstance(outcome, Interrupted)
    assert all(name.startswith("loreft.") for name in load_file(outcome.checkpoint / "model.safetensors"))
    resumed = finished(stopped, resume=True)
    name = "adapter/loreft.safetensors"
    assert resumed.artifacts.sha256[name] == whole.artifacts.sha256[name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"adapter": {"target_modules": ["nowhere"]}},
            "but this Llama.* has nothing of that name; there are down_proj",
        ),
        ({"adapter": {"target_modules": ["qproj", "v_proj"]}}, "names 'qproj'.* did you mean q_proj"),
        ({"adapter": {"target_modules": ["qproj", "v_proj"]}, "method": "ia3"}, "names 'qproj'.* did you mean q_proj"),
        ({"adapter": {"target_modules": ["mlp"]}}, "cannot be adapted"),
        ({"method": "loreft", "adapter": {"rank": 10_000}}, "rank .10000. is more than any matrix"),
        ({"adapter": {"rank": 10_000}}, "rank .10000. is more than any matrix"),
        ({"method": "prefix", "adapter": {"virtual_tokens": 100_000_000}}, "leave no room for examples"),
        ({"training": {"epochs": 1e20, "max_steps": None}}, "epochs are 4e.20 steps"),
        ({"training": {"lr_warmup": 11}}, "lr_warmup .11. is longer than the whole training of 10 steps"),
        ({"training": {"report_to": "nosuch"}}, "report_to is 'nosuch', which is not known"),
        ({"training": {"report_to": "neptune"}}, "report_to is neptune, which is not installed"),
        ({"adapter": {"density": 2.0}}, "density must be in"),
        ({"adapter": {"warmup": 9, "ramp": 9}}, "would never reach its density"),
        ({"training": {"max_length": 3}}, "No example of .* has a completion within max_length"),
        ({"method": "adalora", "adapter": {"ramp": 0.9}}, "AdaLoRA cuts its ranks"),
        ({"method": "loreft", "adapter": {"layers": [99]}}, "no layer 99"),
        ({"data": {"prompt_style": "chat", "shape": "chat"}}, "chat: messages"),
        ({"retention": {"prompts": "nowhere.txt"}}, "cannot be read"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_sentence_and_nothing_is_written(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(settings(**changes))
    assert not (tmp_path / "out").exists()


def test_a_classifier_learns_and_its_adapter_is_read_by_stock_peft(
    settings: Settings, write: Write, tiny_model_folder: Path
) -> None:
    data = str(write(REVIEWS, "reviews.jsonl"))
    run = settings(data={"train": data, "eval": data}, training={"max_steps": 40, "batch_size": 8})
    outcome = finished(run)
    assert outcome.metrics["eval_accuracy"] == 1.0
    tokenizer, trained = outcome.prepared.tokenizer, outcome.prepared.model
    base = AutoModelForSequenceClassification.from_pretrained(
        tiny_model_folder, num_labels=2, pad_token_id=tokenizer.pad_token_id
    )
    loaded = PeftModel.from_pretrained(base, Path(run.output, "adapter")).eval()
    batch = tokenizer([review["text"] for review in REVIEWS], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, trained.eval()(**batch).logits)
    assert trained.config.id2label == {0: "down", 1: "up"}


def test_numbers_with_a_fraction_are_learned_by_regression(settings: Settings, write: Write) -> None:
    ratings = [{"text": review["text"], "label": 4.5 if review["label"] == "up" else 0.0} for review in REVIEWS]
    data = str(write(ratings, "ratings.jsonl"))
    run = settings(data={"train": data, "eval": data}, training={"max_steps": 40, "batch_size": 8})
    outcome = finished(run)
    assert outcome.prepared.examples.labels == []
    assert outcome.prepared.model.config.num_labels == 1
    assert set(outcome.metrics) == {"eval_loss"}
    assert outcome.metrics["eval_loss"] < 4.5**2 / 4, "better than the mean of all ratings"


def test_a_rating_that_is_no_number_is_refused(settings: Settings, write: Write) -> None:
    train_on = write([{"text": "good", "label": 4.5}, {"text": "bad", "label": 0.5}], "ratings.jsonl")
    validation = write([{"text": "so-so", "label": "middle"}], "eval.jsonl")
    with pytest.raises(ConfigError, match="'middle', and the training labels are numbers"):
        train(settings(data={"train": str(train_on), "eval": str(validation)}))


def test_a_validation_label_that_was_not_trained_is_refused(settings: Settings, write: Write) -> None:
    validation = write([{"text": "so-so", "label": "middle"}, {"text": "good", "label": "up"}], "eval.jsonl")
    data = {"train": str(write(REVIEWS, "reviews.jsonl")), "eval": str(validation)}
    with pytest.raises(ConfigError, match="'middle', which is not among the training labels"):
        train(settings(data=data))


def test_an_epoch_is_the_examples_that_are_trained_on(settings: Settings, write: Write) -> None:
    long = {"prompt": "one and two make " * 20, "completion": " three"}
    data = str(write([long, {"prompt": "one", "completion": " two"}] * 6))
    run = settings(data={"train": data}, training={"epochs": 3, "max_steps": None, "batch_size": 2, "max_length": 32})
    outcome = finished(run)
    assert (outcome.left_out, outcome.prepared.total_steps) == (6, 9)
    assert outcome.history[-1]["epoch"] == 3
