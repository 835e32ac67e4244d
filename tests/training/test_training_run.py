import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, PeftModel, TaskType
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    MPNetConfig,
    MPNetForSequenceClassification,
    TrainingArguments,
)

from roselora.adapter.density_check import verify
from roselora.core.pruning import kept_count
from roselora.delta.delta_file import load as load_delta
from roselora.delta.overlay import Overlay
from roselora.errors import ConfigError, NonFiniteError
from roselora.training.config_file import read_settings
from roselora.training.prepare import optimizer_steps, prepare
from roselora.training.train_settings import TrainingSettings, TrainSettings
from roselora.training.trainers import make_trainer
from roselora.training.training_methods import adapter_config
from roselora.training.training_progress import StepReport
from roselora.training.training_run import Interrupted, train
from tests.training.runs import StopAt, finished

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


def test_an_adapted_embedding_is_saved_as_factors_alone_and_no_hub_is_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*arguments: Any, **options: Any) -> bool:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", asked)
    outcome = finished(settings(adapter={"target_modules": ["embed_tokens", "q_proj"]}))
    saved = load_file(outcome.artifacts.folder / "adapter_model.safetensors")
    assert all("lora_" in name for name in saved)


def test_an_adapted_embedding_that_is_the_head_too_has_no_delta_for_it_would_move_both(
    settings: Settings, tiny_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    adapter = {"target_modules": ["embed_tokens", "q_proj"]}
    outcome = finished(settings(adapter=adapter, output=str(tmp_path / "tied")))
    assert outcome.artifacts.delta is None
    assert not (tmp_path / "tied" / "delta.safetensors").exists()
    reason = outcome.artifacts.no_delta
    assert reason is not None
    assert "model.embed_tokens.weight and lm_head.weight are one weight" in reason
    tiny_model(tie_word_embeddings=False).save_pretrained(tmp_path / "untied")
    tiny_tokenizer.save_pretrained(tmp_path / "untied")
    untied = settings(adapter=adapter, output=str(tmp_path / "apart"), model=str(tmp_path / "untied"))
    assert finished(untied).artifacts.delta is not None


def test_the_loss_falls_and_every_step_is_reported_with_its_density(settings: Settings) -> None:
    seen: list[StepReport] = []
    outcome = finished(settings(training={"max_steps": 30}), on_step=seen.append)
    assert [report.step for report in seen] == list(range(1, 31))
    assert (seen[0].density, seen[-1].density) == (1, 0.25)
    losses = [entry["loss"] for entry in outcome.history if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("method", ["lora", "dora", "adalora", "shira", "ia3", "prefix", "loreft", "full"])
def test_other_methods_train_under_the_same_settings(settings: Settings, method: str) -> None:
    outcome = finished(settings(method=method))
    assert outcome.counts is None
    assert outcome.artifacts.delta is None
    losses = [entry["loss"] for entry in outcome.history if "loss" in entry]
    assert min(losses) < losses[0]  # each step sees another batch, and AdaLoRA's loss holds a penalty


def test_a_whole_model_is_saved_with_its_generation_config_though_transformers_would_refuse_that(
    settings: Settings, tiny_model_folder: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_model_folder, tmp_path / "base"))
    known = json.loads((base / "generation_config.json").read_text()) | {"do_sample": False, "temperature": 0.6}
    (base / "generation_config.json").write_text(json.dumps(known))
    outcome = finished(settings(method="full", model=str(base), training={"save_steps": 5}))
    saved = [*Path(outcome.settings.output).rglob("generation_config.json")]
    assert outcome.artifacts.folder / "generation_config.json" in saved
    assert len(saved) > 1  # a checkpoint has one too
    assert {file.read_bytes() for file in saved} == {(base / "generation_config.json").read_bytes()}


@pytest.mark.parametrize("method", ["lora", "loreft", "full"])
def test_all_files_of_a_run_can_be_read_by_whom_the_umask_lets(settings: Settings, method: str) -> None:
    before = os.umask(0o022)
    try:
        outcome = finished(settings(method=method, training={"save_steps": 5}))
    finally:
        os.umask(before)
    for path in [output := Path(outcome.settings.output), *output.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("method", ["shira", "ia3", "prefix"])
def test_what_other_methods_save_is_what_they_trained(settings: Settings, tiny_model_folder: Path, method: str) -> None:
    outcome = finished(settings(method=method))
    tokens = torch.tensor([[5, 9, 30, 60]])
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        before = base(tokens).logits
        loaded = PeftModel.from_pretrained(base, outcome.artifacts.folder).eval()(tokens).logits
        trained = outcome.prepared.model.eval()(tokens).logits
    torch.testing.assert_close(loaded, trained, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, trained, atol=1e-4)


def test_shira_trains_as_many_entries_as_lora_at_places_drawn_by_the_seed(settings: Settings) -> None:
    shira, again, other = (prepare(settings(method="shira", training={"seed": seed})) for seed in (0, 0, 1))
    assert shira.trainable == prepare(settings(method="lora")).trainable

    def places(prepared: Any) -> list[torch.Tensor]:
        return [m.shira_indices["default"] for m in prepared.model.modules() if hasattr(m, "shira_indices")]

    assert all(map(torch.equal, places(shira), places(again)))
    assert not all(map(torch.equal, places(shira), places(other)))


def test_ia3_scales_the_input_of_an_mlps_last_layer_and_the_output_of_others(settings: Settings) -> None:
    config = adapter_config(
        settings(method="ia3", adapter={"target_modules": ["k_proj", "down_proj"]}), TaskType.CAUSAL_LM, 10
    )
    assert isinstance(config, IA3Config)
    assert (config.target_modules, config.feedforward_modules) == ({"k_proj", "down_proj"}, {"down_proj"})


def test_adalora_really_cuts_its_ranks(settings: Settings) -> None:
    outcome = finished(settings(method="adalora", training={"max_steps": 20}))
    model = outcome.prepared.model
    kept = [int((p != 0).sum()) for name, p in model.named_parameters() if "lora_E" in name]
    assert sum(kept) == 4 * len(kept)  # from 6 a matrix at the start to 4 on average


def test_two_runs_of_one_seed_are_equal_and_another_seed_is_not(settings: Settings, tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        outcome = finished(settings(output=str(tmp_path / str(number)), training={"seed": seed}))
        digests.append(outcome.artifacts.sha256["adapter/adapter_model.safetensors"])
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_bit_for_bit_in_mid_ramp(settings: Settings, tmp_path: Path, number: int) -> None:
    changes = {"adapter": {"dropout": 0.1}}
    whole = finished(settings(output=str(tmp_path / "whole"), **changes))
    stopped = settings(output=str(tmp_path / "stopped"), **changes)
    handler = signal.getsignal(number)
    outcome = train(stopped, on_step=StopAt(5, number))
    assert isinstance(outcome, Interrupted)
    assert (outcome.step, outcome.total_steps) == (5, 10)
    assert outcome.checkpoint.is_dir()
    assert not (tmp_path / "stopped" / "adapter").exists()
    resumed = finished(stopped, resume=True)
    name = "adapter/adapter_model.safetensors"
    assert resumed.artifacts.sha256[name] == whole.artifacts.sha256[name]
    assert signal.getsignal(number) is handler


def test_loreft_goes_on_bit_for_bit_from_a_checkpoint_that_holds_nothing_of_the_base(
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
            "but this Llama.* has nothing of that name; there are act_fn",
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
def test_what_cannot_work_is_one_sentence_and_writes_nothing(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(settings(**changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("examples", [16, 15, 3])
@pytest.mark.parametrize(
    "changes", [{"epochs": 2.0}, {"epochs": 1.5}, {"gradient_accumulation": 3}, {"batch_size": 5}, {"max_steps": 7}]
)
def test_the_number_of_steps_is_the_trainers(examples: int, changes: dict[str, Any]) -> None:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

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


def test_a_conversation_is_learnt_only_where_the_assistant_speaks(settings: Settings, write: Write) -> None:
    messages = [{"role": "user", "content": "two and two"}, {"role": "assistant", "content": "four"}]
    run = settings(data={"train": str(write([{"messages": messages}] * 4))})
    prepared = prepare(run)
    (first, *_) = make_trainer(prepared, run, []).train_dataset["labels"]
    assert prepared.tokenizer.decode([token for token in first if token != -100]).startswith("four")


SUMS = [{"prompt": f"{a} and {a} make", "completion": f" {2 * a}"} for a in range(4)]
REVIEWS = [{"text": text, "label": "up"} for text in ("good", "very good", "fine", "nice")] + [
    {"text": text, "label": "down"} for text in ("bad", "very bad", "poor", "dull")
]


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


def test_numbers_with_a_fraction_are_learnt_as_a_regression(settings: Settings, write: Write) -> None:
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
    held_out = write([{"text": "so-so", "label": "middle"}], "eval.jsonl")
    with pytest.raises(ConfigError, match="'middle', and the training labels are numbers"):
        train(settings(data={"train": str(train_on), "eval": str(held_out)}))


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


def test_a_held_out_label_that_was_not_trained_is_refused(settings: Settings, write: Write) -> None:
    held_out = write([{"text": "so-so", "label": "middle"}, {"text": "good", "label": "up"}], "eval.jsonl")
    data = {"train": str(write(REVIEWS, "reviews.jsonl")), "eval": str(held_out)}
    with pytest.raises(ConfigError, match="'middle', which is not among the training labels"):
        train(settings(data=data))


def test_the_adapter_of_a_run_is_the_config_files(settings: Settings) -> None:
    run = settings(adapter={"alpha": 8, "dropout": 0.1, "clamp": 0.5, "warmup": 2, "ramp": 3})
    config: Any = adapter_config(run, "CAUSAL_LM", 10)
    assert (config.r, config.lora_alpha, config.lora_dropout, config.clamp) == (4, 8, 0.1, 0.5)
    assert config.ramp_bounds(10) == (2, 5)


@pytest.mark.parametrize(("warmup", "second"), [(4, 0.25), (0.2, 0.5)])
def test_the_rate_rises_in_so_many_steps_or_in_that_part_of_all(
    settings: Settings, warmup: float, second: float
) -> None:
    outcome = finished(settings(training={"lr_warmup": warmup, "learning_rate": 1.0}))
    rates = [entry["learning_rate"] for entry in outcome.history if "learning_rate" in entry]
    assert rates[:2] == pytest.approx([0, second])


def test_an_epoch_is_the_examples_that_are_trained_on(settings: Settings, write: Write) -> None:
    long = {"prompt": "one and two make " * 20, "completion": " three"}
    data = str(write([long, {"prompt": "one", "completion": " two"}] * 6))
    run = settings(data={"train": data}, training={"epochs": 3, "max_steps": None, "batch_size": 2, "max_length": 32})
    outcome = finished(run)
    assert (outcome.left_out, outcome.prepared.total_steps) == (6, 9)
    assert outcome.history[-1]["epoch"] == 3


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


def test_a_base_with_nan_is_told_as_such_and_not_as_a_learning_rate(
    settings: Settings, tiny_model_folder: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = torch.nan
    shutil.copytree(tiny_model_folder, tmp_path / "broken")
    model.save_pretrained(tmp_path / "broken")
    with pytest.raises(NonFiniteError, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN or infinity in .*broken"):
        prepare(settings(model=str(tmp_path / "broken")))


def test_gradients_are_clipped_to_the_norm_or_not_at_all(settings: Settings) -> None:
    run = settings(training={"max_grad_norm": None})
    assert make_trainer(prepare(run), run, []).args.max_grad_norm == 0
