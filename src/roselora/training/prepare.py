"""Everything that a run needs before its first step: examples, a model with its adapter, the number of steps."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel, PrefixTuningConfig, TaskType, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from roselora.adapter.targets import require_targets
from roselora.errors import ConfigError, shortened
from roselora.files import sha256_file, user_path
from roselora.models.fingerprint import fingerprint
from roselora.models.inference import known_arguments
from roselora.models.loading import LoadedModel, load
from roselora.models.task_heads import head_for
from roselora.models.tokenization import context_of, embedding_rows
from roselora.training import processes
from roselora.training.example_tokens import causal_tokens, class_tokens
from roselora.training.examples import causal_examples, label_ids, labels_of
from roselora.training.loreft import LoReftConfig, add_loreft
from roselora.training.nonfinite import require_finite
from roselora.training.record_reading import Records, read_records
from roselora.training.train_settings import LARGEST, DataSettings, TrainingSettings, TrainSettings
from roselora.training.training_methods import AnyConfig, adapter_config
from roselora.user_files import shown


@dataclass(frozen=True)
class Examples:
    """What a run learns from.

    Attributes:
        train: tokens with their labels; for classification, with the label of the whole text.
        eval: the validation set in the same form, or None.
        labels: the classes' names; empty for a regression; None for a language model.
        sources: for each source its name, its number of records, and the SHA-256 of a file.
        left_out: how many examples are not in ``train``, since no completion token fits into ``max_length``.
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
        examples: the tokenized examples.
        total_steps: optimizer steps of the whole run.
        base_fingerprint: SHA-256 over all weights of the base model, before an adapter was added.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    examples: Examples
    total_steps: int
    base_fingerprint: str

    @property
    def trainable(self) -> int:
        """The number of trained parameters, with a classifier's head."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)


def prepare(settings: TrainSettings) -> Prepared:
    """Read the data, load the model, tokenize, and add the adapter. Nothing is written.

    Raises:
        ConfigError: data, model and method cannot work with these settings.
        ModelError: the model cannot be loaded.
        NonFiniteError: one of its weights is NaN or infinite.
    """
    training = settings.training
    _require_tracker(training.report_to)
    records = read_data(settings.data)
    # Values that the method refuses are found before the model is loaded; the exact number of steps comes later.
    adapter_config(settings, TaskType.CAUSAL_LM, training.max_steps or LARGEST)
    train = records["train"]
    labels = labels_of(train, settings.data.train) if train.shape == "classification" else None
    torch.manual_seed(training.seed)  # loading draws the initial values of a classifier's head
    loaded = load(
        settings.model,
        dtype=training.dtype,
        head=head_for(labels),
        quantized=settings.method not in ("full", "loreft"),  # the Trainer takes a quantized base with adapters alone
    )
    require_finite(loaded.model.named_parameters(), f"in {settings.model}, before training; fetch or make it anew")
    _set_padding(loaded)
    examples = _tokenized(settings, loaded, records, labels)
    if settings.method == "loreft" and labels is None and "text" in train.rows.column_names:
        raise ConfigError("LoReFT changes the states of a prompt, and these examples have none; give another shape.")
    total_steps = optimizer_steps(training, len(examples.train), processes.count())
    if training.lr_scheduler != "constant" and training.lr_warmup > total_steps:
        raise ConfigError(
            f"lr_warmup ({training.lr_warmup}) is longer than the whole training of {total_steps} steps, so the "
            "learning rate would never be reached; make it shorter, or train longer."
        )
    base = fingerprint(loaded.model)
    torch.manual_seed(training.seed)
    model = _adapted(loaded.model, adapter_config(settings, examples.task, total_steps))
    return Prepared(model, loaded.tokenizer, examples, total_steps, base)


def read_data(settings: DataSettings) -> dict[str, Records]:
    """The records of ``train`` and, if there is a validation set, of ``eval``.

    Raises:
        ConfigError: a source cannot be read, or the two have different shapes.
    """
    records = {"train": read_records(settings.train, settings)}
    if settings.eval is not None:
        records["eval"] = read_records(settings.eval, settings, records["train"])
    shapes = sorted({part.shape for part in records.values()})
    if len(shapes) > 1:
        raise ConfigError(f"data.train and data.eval have two shapes, {' and '.join(shapes)}; they must agree.")
    return records


def optimizer_steps(training: TrainingSettings, examples: int, process_count: int) -> int:
    """The number of optimizer steps that a Trainer will take: ``max_steps``, or the batches of all epochs.

    Raises:
        ConfigError: more than an optimizer can count.

    >>> optimizer_steps(TrainingSettings(epochs=2, batch_size=4), examples=10, process_count=1)
    6
    """
    if training.max_steps is not None:
        return training.max_steps
    batches = math.ceil(math.ceil(examples / training.batch_size) / process_count)
    per_epoch = max(1, math.ceil(batches / training.gradient_accumulation))
    steps = math.ceil(training.epochs * per_epoch)
    if steps > LARGEST:
        raise ConfigError(f"{training.epochs} epochs are {steps:.0e} steps, and there can be {LARGEST:,}; train less.")
    return steps


def _require_tracker(name: str) -> None:
    """Refuse a tracker that transformers does not know or that is not installed, as the Trainer would later."""
    if name in ("none", "all"):
        return
    if name not in INTEGRATION_TO_CALLBACK:
        known = ", ".join(INTEGRATION_TO_CALLBACK)
        raise ConfigError(f"report_to is {shown(name)}, which is not known; it may be none, all, {known}.")
    if name not in get_available_reporting_integrations():  # type: ignore[no-untyped-call]
        raise ConfigError(f"report_to is {name}, which is not installed: pip install {name}, or leave it at none.")


def _set_padding(loaded: LoadedModel) -> None:
    """Pad with a token that the model knows: some tokenizers add one for which there is no embedding."""
    tokenizer, config, known_tokens = loaded.tokenizer, loaded.model.config, embedding_rows(loaded.model)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= known_tokens:
        if tokenizer.eos_token_id is None or tokenizer.eos_token_id >= known_tokens:
            raise ConfigError(f"The tokenizer of {loaded.name} has no pad or end token that the model knows: set one.")
        tokenizer.pad_token = tokenizer.eos_token
    if config.pad_token_id is None or config.pad_token_id >= known_tokens:
        config.pad_token_id = tokenizer.pad_token_id


def _tokenized(
    settings: TrainSettings, loaded: LoadedModel, records: dict[str, Records], labels: list[str] | None
) -> Examples:
    tokenizer, known_tokens = loaded.tokenizer, embedding_rows(loaded.model)
    length = _max_length(settings, loaded.model)
    tokens: dict[str, Dataset] = {}
    left_out: dict[str, int] = {}
    sources: dict[str, dict[str, Any]] = {}
    for part, data in records.items():
        source = settings.data.train if part == "train" else cast(str, settings.data.eval)
        sources[part] = {"source": source, "records": len(data.rows)}
        if (path := user_path(source)).is_file():
            sources[part]["sha256"] = sha256_file(path)
        if labels is None:
            examples_of = partial(
                causal_examples, shape=data.shape, chat=_uses_chat(settings.data, data.shape, tokenizer)
            )
            tokens[part], left_out[part] = causal_tokens(
                data.rows, examples_of, tokenizer, known_tokens, length, source
            )
        else:
            tokenizer.padding_side = "right"  # encoders count positions from the first token
            texts = data.rows.remove_columns("label").add_column("label", label_ids(data, labels, source))
            shorter = min(length, tokenizer.model_max_length)
            tokens[part] = class_tokens(texts, tokenizer, known_tokens, shorter, source)
    return Examples(tokens["train"], tokens.get("eval"), labels, sources, left_out.get("train", 0))


def _max_length(settings: TrainSettings, model: PreTrainedModel) -> int:
    """The most tokens of an example: ``max_length``, or fewer if the model has fewer positions."""
    context = context_of(model) or LARGEST
    if settings.method == "prefix":
        context -= settings.adapter.virtual_tokens
        if context < 2:
            raise ConfigError(
                f"virtual_tokens ({settings.adapter.virtual_tokens}) leave no room for examples in the "
                f"{context + settings.adapter.virtual_tokens} positions of this model; train fewer."
            )
    return min(settings.training.max_length, context)


def _uses_chat(data: DataSettings, shape: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    has_template = tokenizer.chat_template is not None
    wanted = shape == "chat" or data.prompt_style == "chat"
    if wanted and not has_template:
        raise ConfigError(
            "The model's tokenizer has no chat template, so it cannot render messages; give data of the shape "
            "instruction with prompt_style alpaca, or of the shape completion."
        )
    return wanted or (data.prompt_style == "auto" and has_template)


def _adapted(model: PreTrainedModel, config: AnyConfig | None) -> PreTrainedModel | PeftModel:
    if config is None:
        model.requires_grad_(True)
        return model
    rank = config.rank if isinstance(config, LoReftConfig) else getattr(config, "r", None)
    widest = max(min(weight.shape) for weight in model.parameters() if weight.ndim == 2)
    if rank is not None and rank > widest:
        raise ConfigError(f"rank ({rank}) is more than any matrix of this model has, which is {widest}; lower it.")
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
