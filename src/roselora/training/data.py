"""Examples of four shapes, from files or the hub, as what a trainer reads.

Causal examples become ``prompt`` and ``completion``, of which only the completion is learnt, or ``text``, learnt
whole; trl knows both. A conversation gives one example for each turn of the assistant, so that every chat template
will do. Classification examples become ``text``, ``text_pair`` if there is one, and ``label``: a class's id, or where
labels are written with a decimal point the number itself, which a regression learns.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

from roselora.errors import ConfigError
from roselora.files import PICKLE_SUFFIXES
from roselora.training.settings import DataSettings, Shape

_READERS = {".jsonl": "json", ".json": "json", ".csv": "csv"}
_COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    # For each shape the sets of columns that make it; the first shape that fits is taken.
    "chat": (("messages",),),
    "instruction": (("instruction", "output"),),
    "classification": (("text", "label"),),
    "completion": (("prompt", "completion"), ("text",)),
}
_ALPACA = (
    "Below is an instruction that describes a task{with_input}. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{instruction}\n\n{input_block}### Response:\n"
)


def read_examples(source: str, settings: DataSettings) -> Dataset:
    """The records of a file or hub dataset, with the columns under the names that the shapes have.

    Raises:
        ConfigError: there is no such file or dataset, it cannot be read, or it is empty.
    """
    path = Path(source).expanduser()
    reader = _READERS.get(path.suffix.lower())
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ConfigError(f"{source} may hold a pickle, which is never read; give .jsonl, .json or .csv.")
    if path.is_file() and reader is None:
        raise ConfigError(f"{source} is no .jsonl, .json or .csv file; give the data as one of these.")
    if not path.is_file() and (reader is not None or path.is_absolute() or source.startswith(".")):
        raise ConfigError(f"There is no data file {source}.")
    try:
        if path.is_file():
            records = load_dataset(reader, data_files=str(path), split="train")
        else:
            records = load_dataset(source, split=settings.split)
    except Exception as error:  # datasets raises many kinds, each about what it was given
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(f"The data {source} cannot be read ({reason}).") from error
    if not len(records):
        raise ConfigError(f"The data {source} holds no records.")
    for wanted, own in settings.columns.items():
        if own not in records.column_names:
            raise ConfigError(f"data.columns names {own!r}, but {source} has {', '.join(records.column_names)}.")
        if wanted != own:
            records = records.remove_columns([wanted] if wanted in records.column_names else [])
            records = records.rename_column(own, wanted)
    if settings.max_examples is not None:
        records = records.select(range(min(settings.max_examples, len(records))))
    return records


def recognise(columns: Iterable[str], shape: Shape, source: str) -> str:
    """The shape of records with these columns: the one asked for, or the first that fits.

    Raises:
        ConfigError: columns are missing.
    """
    present = set(columns)
    for name, sets in _COLUMNS.items():
        if shape in ("auto", name) and any(present.issuperset(needed) for needed in sets):
            return name
    asked = _COLUMNS if shape == "auto" else {shape: _COLUMNS[shape]}
    needed = "; ".join(f"{name}: {' or '.join(' + '.join(names) for names in sets)}" for name, sets in asked.items())
    raise ConfigError(
        f"{source} has the columns {', '.join(sorted(present))}, and needs others ({needed}); "
        "say in data.columns which of its columns stand for them."
    )


def example_count(records: Dataset, shape: str) -> int:
    """How many examples the records will give: one each, or one for each turn of the assistant."""
    if shape != "chat":
        return len(records)
    messages = (message for turns in records["messages"] for message in (turns or [])[1:])
    # What is no message at all is told by causal_examples, with its record.
    return sum(1 for message in messages if isinstance(message, dict) and message.get("role") == "assistant")


def causal_examples(records: Dataset, shape: str, *, chat: bool, source: str) -> Dataset:
    """Records as prompt and completion, or as text.

    Args:
        records: of the shape ``instruction``, ``chat`` or ``completion``.
        chat: whether an instruction is put as a message, for the tokenizer's chat template; else as Alpaca's text.

    Raises:
        ConfigError: a record is empty or not of the shape; the message gives its number.
    """
    shaping = {"instruction": _instruction, "chat": _turns, "completion": _completion}[shape]

    def shape_batch(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        examples: list[dict[str, Any]] = []
        for place, index in enumerate(indices):
            record = {name: column[place] for name, column in batch.items()}
            try:
                examples += shaping(record, chat)
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(f"Record {index + 1} of {source} is no {shape} example ({error}).") from None
        return {name: [example[name] for example in examples] for name in examples[0]}

    # Not from cache: two sets of equal records, one put as chat and one not, must not be taken for each other.
    return records.map(
        shape_batch, batched=True, with_indices=True, remove_columns=records.column_names, load_from_cache_file=False
    )


def labels_of(records: Dataset, source: str) -> list[str]:
    """The names of the classes, in the order of their ids; none where the labels are numbers with a fraction.

    Raises:
        ConfigError: fewer than two, or labels that are neither whole numbers nor names.
    """
    names = getattr(records.features["label"], "names", None)
    if names is not None:
        return list(names)
    values = set(records["label"])
    if all(isinstance(value, float) and math.isfinite(value) for value in values):
        return []
    if not all(isinstance(value, int | str) for value in values):
        raise ConfigError(f"The labels of {source} must be whole numbers or names, each record having one.")
    if len(values) < 2:
        raise ConfigError(f"{source} has fewer than two labels, so there is nothing to tell apart.")
    if all(isinstance(value, int) for value in values):
        return [str(number) for number in range(max(values) + 1)]
    return sorted(map(str, values))


def classification_examples(records: Dataset, labels: list[str], source: str) -> Dataset:
    """Records as text, maybe text_pair, and the label's id, or where there are no classes the number.

    Raises:
        ConfigError: a label is not among ``labels``, or not a number.
    """
    names = getattr(records.features["label"], "names", None)
    ids = {label: number for number, label in enumerate(labels)}

    def label_id(record: dict[str, Any]) -> dict[str, float]:
        if not labels:
            return {"label": _number(record["label"], source)}
        label = str(record["label"]) if names is None else names[record["label"]]
        if label not in ids:
            raise ConfigError(f"{source} has the label {label!r}, which is not among the training labels {labels}.")
        return {"label": ids[label]}

    kept = [name for name in records.column_names if name in ("text", "text_pair", "label")]
    plain = Dataset.from_list([{name: record[name] for name in kept} for record in records])
    return plain.map(label_id, desc="labels")


def _number(label: Any, source: str) -> float:
    if isinstance(label, int | float) and math.isfinite(label):
        return float(label)
    raise ConfigError(f"{source} has the label {label!r}, and the training labels are numbers.")


def _completion(record: Mapping[str, Any], chat: bool) -> Iterator[dict[str, Any]]:
    if "completion" in record:
        yield {"prompt": _text(record, "prompt"), "completion": _text(record, "completion")}
    else:
        yield {"text": _text(record, "text")}


def _instruction(record: Mapping[str, Any], chat: bool) -> Iterator[dict[str, Any]]:
    instruction, answer = _text(record, "instruction"), _text(record, "output")
    extra = record.get("input") or ""
    if chat:
        content = f"{instruction}\n\n{extra}" if extra else instruction
        yield {
            "prompt": [{"role": "user", "content": content}],
            "completion": [{"role": "assistant", "content": answer}],
        }
    else:
        prompt = _ALPACA.format(
            instruction=instruction,
            with_input=", paired with an input that provides further context" if extra else "",
            input_block=f"### Input:\n{extra}\n\n" if extra else "",
        )
        yield {"prompt": prompt, "completion": answer}


def _turns(record: Mapping[str, Any], chat: bool) -> Iterator[dict[str, Any]]:
    messages = [{"role": m["role"], "content": _text(m, "content")} for m in record["messages"]]
    answered = False
    for index, message in enumerate(messages):
        if message["role"] == "assistant" and index:
            answered = True
            yield {"prompt": messages[:index], "completion": [message]}
    if not answered:
        raise ValueError("no turn of the assistant follows another message")


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"its {name} is {value!r}, not text")
    return value
