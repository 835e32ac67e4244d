"""Everything that a run needs before its first step: examples, a model with its adapter, the number of steps."""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel, PrefixTuningConfig, TaskType, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.errors import ConfigError
from roselora.files import sha256_file, user_path
from roselora.models.calling import known_arguments
from roselora.models.fingerprint import fingerprint
from roselora.models.heads import head_for
from roselora.models.loading import load
from roselora.training import processes
from roselora.training.data import (
    causal_examples,
    classification_examples,
    example_count,
    labels_of,
    read_examples,
    recognise,
)
from roselora.training.loreft import LoReftConfig, add_loreft
from roselora.training.methods import AnyConfig, adapter_config
from roselora.training.settings import DataSettings, TrainingSettings, TrainSettings


@dataclass(frozen=True)
class Examples:
    """What a run learns from.

    Attributes:
        train: prompt and completion, or text; for classification text, maybe text_pair, and label as an id or number.
        eval: the held-out ones, likewise, or None.
        labels: the classes' names, none if a number is predicted, or None if the model is to say the next token.
        sources: for each source its name, its number of records, and the SHA-256 of a file.
    """

    train: Dataset
    eval: Dataset | None
    labels: list[str] | None
    sources: dict[str, dict[str, Any]]

    @property
    def task(self) -> TaskType:
        """PEFT's name for what the model does."""
        return TaskType.CAUSAL_LM if self.labels is None else TaskType.SEQ_CLS


@dataclass(frozen=True)
class Prepared:
    """A model that is ready for its first step.

    Attributes:
        model: a PeftModel, or for the methods full and loreft the model itself.
        tokenizer: the model's own.
        examples: as read.
        total_steps: optimizer steps of the whole run.
        base_fingerprint: SHA-256 over all weights of the base, before anything was added.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    examples: Examples
    total_steps: int
    base_fingerprint: str

    @property
    def trainable(self) -> int:
        """How many parameters are trained, classifier heads among them."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)


def read_data(settings: DataSettings) -> tuple[dict[str, Dataset], str, dict[str, dict[str, Any]]]:
    """The records of ``train`` and ``eval``, their shape, and where they came from.

    Raises:
        ConfigError: a source cannot be read, or has not the columns that its shape needs.
    """
    records: dict[str, Dataset] = {}
    sources: dict[str, dict[str, Any]] = {}
    for part, source in (("train", settings.train), ("eval", settings.eval)):
        if source is None:
            continue
        records[part] = read_examples(source, settings)
        path = user_path(source)
        sources[part] = {"source": source, "records": len(records[part])}
        if path.is_file():
            sources[part]["sha256"] = sha256_file(path)
    shapes = {recognise(data.column_names, settings.shape, sources[part]["source"]) for part, data in records.items()}
    if len(shapes) > 1:
        raise ConfigError(f"data.train and data.eval have two shapes, {' and '.join(sorted(shapes))}; they must agree.")
    return records, shapes.pop(), sources


def optimizer_steps(training: TrainingSettings, examples: int, process_count: int) -> int:
    """How many optimizer steps a Trainer will take: ``max_steps``, or all epochs' batches, accumulated."""
    if training.max_steps is not None:
        return training.max_steps
    batches = math.ceil(math.ceil(examples / training.batch_size) / process_count)
    per_epoch = max(1, math.ceil(batches / training.gradient_accumulation))
    return math.ceil(training.epochs * per_epoch)


def prepare(settings: TrainSettings) -> Prepared:
    """Read the data, load the model and add the adapter; nothing is written.

    Raises:
        ConfigError: data, model and method cannot work as they are set.
        ModelError: the model cannot be loaded.
    """
    records, shape, sources = read_data(settings.data)
    total_steps = optimizer_steps(settings.training, example_count(records["train"], shape), processes.count())
    # Before the model is loaded, so that what cannot work is said at once.
    adapter_config(settings, TaskType.CAUSAL_LM, total_steps)
    labels = labels_of(records["train"], settings.data.train) if shape == "classification" else None
    torch.manual_seed(settings.training.seed)  # a classifier's new head is drawn while the model is loaded
    loaded = load(settings.model, dtype=settings.training.dtype, head=head_for(labels))
    if labels is not None:
        loaded.tokenizer.padding_side = "right"  # encoders count positions from the first token
    if loaded.model.config.pad_token_id is None:
        loaded.model.config.pad_token_id = loaded.tokenizer.pad_token_id
    if labels is None:
        chat = _uses_chat(settings.data, shape, loaded.tokenizer)
        shaped = {
            part: causal_examples(data, shape, chat=chat, source=sources[part]["source"])
            for part, data in records.items()
        }
    else:
        shaped = {
            part: classification_examples(data, labels, sources[part]["source"]) for part, data in records.items()
        }
    examples = Examples(shaped["train"], shaped.get("eval"), labels, sources)
    if settings.method == "loreft" and "text" in examples.train.column_names and labels is None:
        raise ConfigError("LoReFT changes the states of a prompt, and these examples have none; give another shape.")
    base = fingerprint(loaded.model)
    torch.manual_seed(settings.training.seed)
    model = _adapted(loaded.model, adapter_config(settings, examples.task, total_steps))
    return Prepared(model, loaded.tokenizer, examples, total_steps, base)


def _adapted(model: PreTrainedModel, config: AnyConfig | None) -> PreTrainedModel | PeftModel:
    if config is None:
        model.requires_grad_(True)
        return model
    if isinstance(config, LoReftConfig):
        return add_loreft(model, config)
    if isinstance(config, PrefixTuningConfig) and not known_arguments(model, past_key_values=None):
        raise ConfigError(f"{type(model).__name__} takes no keys and values, so no prefix can be trained before them.")
    try:
        return cast(PeftModel, get_peft_model(model, config))
    except ValueError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"This model cannot be adapted with these settings ({reason}).") from error


def _uses_chat(data: DataSettings, shape: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    has_template = tokenizer.chat_template is not None
    wanted = shape == "chat" or data.prompt_style == "chat"
    if wanted and not has_template:
        raise ConfigError(
            "The model's tokenizer has no chat template, so messages cannot be put to it; give data of the shape "
            "instruction with prompt_style alpaca, or of the shape completion."
        )
    return wanted or (data.prompt_style == "auto" and has_template)
