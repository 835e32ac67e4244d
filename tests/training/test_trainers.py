"""The Trainer of a run: its learning rates, clipping, labels and device."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import (
    TrainingArguments,
)

from roselora.training.prepare import prepare
from roselora.training.train_settings import TrainSettings
from roselora.training.trainers import make_trainer
from tests.training.runs import REVIEWS, finished

Settings = Callable[..., TrainSettings]
Write = Callable[..., Path]


@pytest.mark.parametrize(("warmup", "second"), [(4, 0.25), (0.2, 0.5)])
def test_warm_up_is_a_number_of_steps_or_a_fraction_of_all(settings: Settings, warmup: float, second: float) -> None:
    outcome = finished(settings(training={"lr_warmup": warmup, "learning_rate": 1.0}))
    rates = [entry["learning_rate"] for entry in outcome.history if "learning_rate" in entry]
    assert rates[:2] == pytest.approx([0, second])


def test_gradients_are_clipped_to_the_norm_or_not_at_all(settings: Settings) -> None:
    run = settings(training={"max_grad_norm": None})
    assert make_trainer(prepare(run), run, []).args.max_grad_norm == 0


def test_a_conversation_is_learned_only_where_the_assistant_speaks(settings: Settings, write: Write) -> None:
    messages = [{"role": "user", "content": "two and two"}, {"role": "assistant", "content": "four"}]
    run = settings(data={"train": str(write([{"messages": messages}] * 4))})
    prepared = prepare(run)
    (first, *_) = make_trainer(prepared, run, []).train_dataset["labels"]
    assert prepared.tokenizer.decode([token for token in first if token != -100]).startswith("four")


def test_several_gpus_without_a_launcher_make_no_epoch_shorter(
    settings: Settings, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roselora.training.trainers import make_trainer

    begin = TrainingArguments.__post_init__

    def begin_beside_two_gpus(self: TrainingArguments) -> None:
        begin(self)
        self._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", begin_beside_two_gpus)
    for data in ({}, {"train": str(write(REVIEWS, "reviews.jsonl"))}):
        run = settings(data=data)
        arguments = make_trainer(prepare(run), run, []).args
        assert (arguments.n_gpu, arguments.train_batch_size, arguments.eval_batch_size) == (1, 4, 4)
