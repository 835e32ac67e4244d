"""What a run needs before its first step: steps, examples, padding, and the initial values of a head."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    MPNetConfig,
    MPNetForSequenceClassification,
    TrainingArguments,
)

from roselora.errors import ConfigError
from roselora.training.prepare import optimizer_steps, prepare
from roselora.training.train_settings import TrainingSettings, TrainSettings
from roselora.training.trainers import make_trainer
from roselora.training.training_run import train
from tests.training.runs import REVIEWS, SUMS

Settings = Callable[..., TrainSettings]
Write = Callable[..., Path]


@pytest.mark.parametrize("examples", [16, 15, 3])
@pytest.mark.parametrize(
    "changes", [{"epochs": 2.0}, {"epochs": 1.5}, {"gradient_accumulation": 3}, {"batch_size": 5}, {"max_steps": 7}]
)
def test_the_number_of_steps_is_the_trainers(examples: int, changes: dict[str, Any]) -> None:
    from datasets import Dataset
    from transformers import Trainer

    training = TrainingSettings(**{"batch_size": 4, **changes})
    arguments = TrainingArguments(
        output_dir="unused",
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation,
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        report_to="none",
        remove_unused_columns=False,
    )
    data = Dataset.from_list([{"x": float(n)} for n in range(examples)])
    trainer = Trainer(model=torch.nn.Linear(1, 1), args=arguments, train_dataset=data)
    batches = trainer.get_train_dataloader()
    _, _, _, _, _, _, steps = trainer.set_initial_training_values(arguments, batches)
    assert optimizer_steps(training, examples, 1) == steps


def test_an_epoch_of_conversations_is_every_turn_of_the_assistant(settings: Settings, write: Write) -> None:
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")]
    run = settings(
        data={"train": str(write([{"messages": turns}] * 3))},
        training={"max_steps": None, "epochs": 2, "batch_size": 1},
    )
    prepared = prepare(run)
    assert (len(prepared.examples.train), prepared.total_steps) == (6, 12)


def test_a_classifiers_new_head_is_drawn_by_the_seed(settings: Settings, write: Write) -> None:
    run = settings(data={"train": str(write(REVIEWS, "reviews.jsonl"))})
    heads = []
    for _ in range(2):
        torch.manual_seed(int(torch.randint(1000, ()).item()))
        model: Any = prepare(run).model
        heads.append(model.get_base_model().score.modules_to_save["default"].weight.detach())
    assert torch.equal(*heads)


def test_a_pad_token_beyond_the_embeddings_pads_nothing(
    settings: Settings, write: Write, tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "padded"
    shutil.copytree(tiny_model_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    tokenizer.save_pretrained(folder)
    assert tokenizer.pad_token_id >= model.get_input_embeddings().num_embeddings
    for data in ([*SUMS, {"prompt": "one", "completion": " two"}], REVIEWS):
        run = settings(model=str(folder), data={"train": str(write(data, "d.jsonl"))}, training={"max_steps": 3})
        prepared = prepare(run)
        assert prepared.tokenizer.pad_token == prepared.tokenizer.eos_token
        trainer = make_trainer(prepared, run, [])
        for batch in trainer.get_train_dataloader():
            prepared.model(**{name: value.to(prepared.model.device) for name, value in batch.items()})


def test_a_prefix_is_refused_where_a_model_takes_no_keys_and_values(
    settings: Settings, write: Write, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    config = MPNetConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    MPNetForSequenceClassification(config).save_pretrained(tmp_path / "encoder")
    tiny_tokenizer.save_pretrained(tmp_path / "encoder")
    run = settings(
        model=str(tmp_path / "encoder"),
        method="prefix",
        data={"train": str(write(REVIEWS, "reviews.jsonl"))},
        adapter={"target_modules": "all-linear"},
    )
    assert prepare(run.model_copy(update={"method": "shira"})).trainable > 0
    with pytest.raises(ConfigError, match="takes no keys and values"):
        train(run)
    assert not (tmp_path / "out").exists()
