"""Everything that a run needs before its first step: examples, a model with its adapter, the number of steps."""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel, PrefixTuningConfig, TaskType, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.adapter.targets import require_targets
from roselora.errors import ConfigError, shortened
from roselora.files import sha256_file, user_path
from roselora.models.fingerprint import fingerprint
from roselora.models.inference import known_arguments
from roselora.models.loading import LoadedModel, load
from roselora.models.task_heads import head_for
from roselora.training import processes
from roselora.training.example_tokens import causal_tokens, class_tokens
from roselora.training.examples import (
    causal_examples,
    classification_examples,
    example_count,
    labels_of,
    read_examples,
    recognise,
)
from roselora.training.experiment_trackers import require_tracker
from roselora.training.loreft import LoReftConfig, add_loreft
from roselora.training.nonfinite import require_finite
from roselora.training.train_settings import LARGEST, DataSettings, TrainingSettings, TrainSettings
from roselora.training.training_methods import AnyConfig, adapter_config


@dataclass(frozen=True)
class Examples:
    """What a run learns from.

    Attributes:
        train: tokens and their labels, as `training.tokens` makes them; for classification the label of the whole.
        eval: the held-out ones, likewise, or None.
        labels: the classes' names, none if a number is predicted, or None if the model is to say the next token.
        sources: for each source its name, its number of records, and the SHA-256 of a file.
        left_out: how many are not among ``train`` because they had no completion within ``max_length``.
    """

    train: Dataset
    eval: Dataset | None
    labels: list[str] | None
    sources: dict[str, dict[str, Any]]
    left_out: int = 0

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
        records[part] = read_examples(source, settings, records.get("train"))
        path = user_path(source)
        sources[part] = {"source": source, "records": len(records[part])}
        if path.is_file():
            sources[part]["sha256"] = sha256_file(path)
    shapes = {recognise(data.column_names, settings.shape, sources[part]["source"]) for part, data in records.items()}
    if len(shapes) > 1:
        raise ConfigError(f"data.train and data.eval have two shapes, {' and '.join(sorted(shapes))}; they must agree.")
    return records, shapes.pop(), sources


def optimizer_steps(training: TrainingSettings, examples: int, process_count: int) -> int:
    """How many optimizer steps a Trainer will take: ``max_steps``, or all epochs' batches, accumulated.

    Raises:
        ConfigError: more than an optimizer counts.
    """
    if training.max_steps is not None:
        return training.max_steps
    batches = math.ceil(math.ceil(examples / training.batch_size) / process_count)
    per_epoch = max(1, math.ceil(batches / training.gradient_accumulation))
    steps = math.ceil(training.epochs * per_epoch)
    if steps > LARGEST:
        raise ConfigError(f"{training.epochs} epochs are {steps:.0e} steps, and there can be {LARGEST:,}; train less.")
    return steps


def prepare(settings: TrainSettings) -> Prepared:
    """Read the data, load the model, tokenize, and add the adapter; nothing is written.

    Raises:
        ConfigError: data, model and method cannot work as they are set.
        ModelError: the model cannot be loaded.
        NonFiniteError: one of its weights is NaN or infinite.
    """
    require_tracker(settings.training.report_to)
    records, shape, sources = read_data(settings.data)
    at_most = optimizer_steps(settings.training, example_count(records["train"], shape), processes.count())
    # Before the model is loaded, so that what cannot work is said at once.
    adapter_config(settings, TaskType.CAUSAL_LM, at_most)
    labels = labels_of(records["train"], settings.data.train) if shape == "classification" else None
    torch.manual_seed(settings.training.seed)  # a classifier's new head is drawn while the model is loaded
    loaded = load(
        settings.model,
        dtype=settings.training.dtype,
        head=head_for(labels),
        quantized=settings.method not in ("full", "loreft"),  # the Trainer takes a quantized base with adapters alone
    )
    require_finite(loaded.model.named_parameters(), f"in {settings.model}, before training; fetch or make it anew")
    rows = _embedding_rows(loaded.model)
    _set_padding(loaded, rows)
    examples = _examples(settings, loaded, rows, records, shape, labels, sources)
    if settings.method == "loreft" and labels is None and "text" in records["train"].column_names:
        raise ConfigError("LoReFT changes the states of a prompt, and these examples have none; give another shape.")
    total_steps = optimizer_steps(settings.training, len(examples.train), processes.count())
    _check_warmup(settings.training, total_steps)
    base = fingerprint(loaded.model)
    torch.manual_seed(settings.training.seed)
    model = _adapted(loaded.model, adapter_config(settings, examples.task, total_steps))
    return Prepared(model, loaded.tokenizer, examples, total_steps, base)


def _embedding_rows(model: PreTrainedModel) -> int:
    return int(cast(Any, model.get_input_embeddings()).weight.shape[0])


def _set_padding(loaded: LoadedModel, rows: int) -> None:
    """Pad with a token that the model has: some tokenizers add one for which no embedding was made."""
    tokenizer, config = loaded.tokenizer, loaded.model.config
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
        if tokenizer.eos_token_id is None or tokenizer.eos_token_id >= rows:
            raise ConfigError(f"The tokenizer of {loaded.name} has no pad or end token that the model knows: set one.")
        tokenizer.pad_token = tokenizer.eos_token
    if config.pad_token_id is None or config.pad_token_id >= rows:
        config.pad_token_id = tokenizer.pad_token_id


def _examples(
    settings: TrainSettings,
    loaded: LoadedModel,
    rows: int,
    records: dict[str, Dataset],
    shape: str,
    labels: list[str] | None,
    sources: dict[str, dict[str, Any]],
) -> Examples:
    """The records of each part in their shape, as tokens."""
    tokenizer, length = loaded.tokenizer, _length(settings, loaded.model)
    tokens: dict[str, Dataset] = {}
    left_out = 0
    for part, data in records.items():
        source = sources[part]["source"]
        if labels is None:
            chat = _uses_chat(settings.data, shape, tokenizer)
            examples = causal_examples(data, shape, chat=chat, source=source)
            tokens[part] = causal_tokens(examples, tokenizer, rows, length, source)
        else:
            tokenizer.padding_side = "right"  # encoders count positions from the first token
            examples = classification_examples(data, labels, source)
            tokens[part] = class_tokens(examples, tokenizer, rows, min(length, tokenizer.model_max_length), source)
        if part == "train":
            left_out = len(examples) - len(tokens[part])
    return Examples(tokens["train"], tokens.get("eval"), labels, sources, left_out)


def _length(settings: TrainSettings, model: PreTrainedModel) -> int:
    """How many tokens of an example the model is given: what its config has positions for, where it says."""
    context = int(getattr(model.config, "max_position_embeddings", None) or LARGEST)
    if settings.method == "prefix":
        context -= settings.adapter.virtual_tokens
        if context < 2:
            raise ConfigError(
                f"virtual_tokens ({settings.adapter.virtual_tokens}) leave no room for examples in the "
                f"{context + settings.adapter.virtual_tokens} positions of this model; train fewer."
            )
    return min(settings.training.max_length, context)


def _check_warmup(training: TrainingSettings, total_steps: int) -> None:
    if training.lr_scheduler != "constant" and training.lr_warmup > total_steps:
        raise ConfigError(
            f"lr_warmup ({training.lr_warmup}) is longer than the whole training of {total_steps} steps, so the "
            "learning rate would never be reached; make it shorter, or train longer."
        )


def _adapted(model: PreTrainedModel, config: AnyConfig | None) -> PreTrainedModel | PeftModel:
    if config is None:
        model.requires_grad_(True)
        return model
    _check_rank(model, config.rank if isinstance(config, LoReftConfig) else getattr(config, "r", None))
    if isinstance(config, LoReftConfig):
        return add_loreft(model, config)
    if isinstance(config, PrefixTuningConfig) and not known_arguments(model, past_key_values=None):
        raise ConfigError(f"{type(model).__name__} takes no keys and values, so no prefix can be trained before them.")
    require_targets(model, config)
    try:
        return cast(PeftModel, get_peft_model(model, config))
    except ValueError as error:
        reason = shortened(" ".join(str(error).split()).rstrip("."))
        raise ConfigError(f"This model cannot be adapted with these settings ({reason}).") from error


def _check_rank(model: PreTrainedModel, rank: int | None) -> None:
    widest = max(min(weight.shape) for weight in model.parameters() if weight.ndim == 2)
    if rank is not None and rank > widest:
        raise ConfigError(f"rank ({rank}) is more than any matrix of this model has, which is {widest}; lower it.")


def _uses_chat(data: DataSettings, shape: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    has_template = tokenizer.chat_template is not None
    wanted = shape == "chat" or data.prompt_style == "chat"
    if wanted and not has_template:
        raise ConfigError(
            "The model's tokenizer has no chat template, so messages cannot be put to it; give data of the shape "
            "instruction with prompt_style alpaca, or of the shape completion."
        )
    return wanted or (data.prompt_style == "auto" and has_template)
