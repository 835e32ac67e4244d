"""Examples of four shapes, from files or the hub, as what a trainer reads.

Causal examples become ``prompt`` and ``completion``, of which only the completion is learnt, or ``text``, learnt
whole; trl knows both. A conversation gives one example for each turn of the assistant, so that every chat template
will do. Classification examples become ``text``, ``text_pair`` if there is one, and ``label``: a class's id, or where
labels are written with a decimal point the number itself, which a regression learns.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from datasets import Dataset, load_dataset

from roselora.errors import ConfigError, shortened
from roselora.files import PICKLE_SUFFIXES, user_path
from roselora.training.record_reading import ENDINGS, read_records
from roselora.training.train_settings import COLUMNS, DataSettings, Shape
from roselora.user_files import shown

LARGEST_ID = 1000
"""A whole number below it is the id of a class, however few classes there are."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    # For each shape the sets of columns that make it; the first shape that fits is taken.
    "chat": (("messages",),),
    "instruction": (("instruction", "output"),),
    "classification": (("text", "label"),),
    "completion": (("prompt", "completion"), ("text",)),
}
_OPTIONAL = ("input", "text_pair")
_ALPACA = (
    "Below is an instruction that describes a task{with_input}. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{instruction}\n\n{input_block}### Response:\n"
)


def read_examples(source: str, settings: DataSettings, training: Dataset | None = None) -> Dataset:
    """The records of a file or hub dataset, with the columns under the names that the shapes have.

    Args:
        source: a file or a dataset's hub id.
        settings: what its columns are called, and how many records are used.
        training: the records trained on, if these are others: whether a CSV's labels are numbers, theirs decide.

    Raises:
        ConfigError: there is no such file or dataset, it cannot be read, or it is empty.
    """
    path = user_path(source)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ConfigError(f"{source} may hold a pickle, which is never read; give .jsonl, .json or .csv.")
    if path.is_dir():
        raise ConfigError(f"{source} is a folder; name a .jsonl, .json or .csv file in it.")
    if path.is_file():
        if path.suffix.lower() not in ENDINGS:
            raise ConfigError(f"{source} is no .jsonl, .json or .csv file; give the data as one of these.")
        records = read_records(path, partial(_meanings, settings), _has_numeric_labels(training))
    elif path.suffix.lower() in ENDINGS or not _HUB_ID.fullmatch(source):
        raise ConfigError(f"There is no data file {source}.")
    else:
        records = _from_hub(source, settings.split)
    for own in settings.columns.values():
        if own not in records.column_names:
            raise ConfigError(
                f"data.columns names {shown(own)}, but {source} has {shortened(', '.join(records.column_names))}."
            )
    replaced = [name for name in settings.columns if name not in settings.columns.values()]
    records = records.remove_columns([name for name in replaced if name in records.column_names])
    records = records.rename_columns({own: name for name, own in settings.columns.items() if own != name})
    if settings.max_examples is not None:
        records = records.select(range(min(settings.max_examples, len(records))))
    return records


def _has_numeric_labels(records: Dataset | None) -> bool | None:
    if records is None or "label" not in records.column_names:
        return None
    return str(getattr(records.features["label"], "dtype", "")).startswith("float")


def _meanings(settings: DataSettings, names: Iterable[str]) -> dict[str, str]:
    """What each of a file's columns stands for, of those that its shape looks at: all that are known if none fits."""
    called = {own: name for name, own in settings.columns.items()}
    meanings = {name: called.get(name, name) for name in names if name in called or name not in settings.columns}
    shape = _shape_of(meanings.values(), settings.shape)
    known = COLUMNS if shape is None else {name for names in (*_COLUMNS[shape], _OPTIONAL) for name in names}
    return {name: meaning for name, meaning in meanings.items() if meaning in known or name in called}


def _from_hub(source: str, split: str) -> Dataset:
    try:
        records = load_dataset(source, split=split)
    except Exception as error:  # datasets raises many kinds, each about what it was given
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(f"The data {source} cannot be read ({shortened(reason)}).") from error
    if not len(records):
        raise ConfigError(f"The data {source} holds no records.")
    return records


def recognise(columns: Iterable[str], shape: Shape, source: str) -> str:
    """The shape of records with these columns: the one asked for, or the first that fits.

    Raises:
        ConfigError: columns are missing.
    """
    present = set(columns)
    if (found := _shape_of(present, shape)) is not None:
        return found
    asked = _COLUMNS if shape == "auto" else {shape: _COLUMNS[shape]}
    needed = "; ".join(f"{name}: {' or '.join(' + '.join(names) for names in sets)}" for name, sets in asked.items())
    raise ConfigError(
        f"{source} has the columns {shortened(', '.join(sorted(present)))}, and needs others ({needed}); "
        "say in data.columns which of its columns stand for them."
    )


def _shape_of(columns: Iterable[str], shape: Shape) -> str | None:
    present = set(columns)
    fitting = (name for name, sets in _COLUMNS.items() if any(present.issuperset(needed) for needed in sets))
    return next((name for name in fitting if shape in ("auto", name)), None)


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

    Whole numbers are ids, with a class for each up to the largest, unless one is negative or too large to be an id:
    they are names then, like texts, and yes and no.

    Raises:
        ConfigError: fewer than two, or labels that are neither numbers nor names.
    """
    names = getattr(records.features["label"], "names", None)
    if names is not None:
        return list(names)
    labels = records["label"]
    for number, label in enumerate(labels, start=1):
        if not isinstance(label, str | int | float) or label in ("", math.inf, -math.inf) or label != label:
            raise ConfigError(
                f"Record {number} of {source} has the label {shown(label)}; labels are names, whole numbers, or "
                "numbers with a decimal point."
            )
    values = set(labels)
    if all(isinstance(value, float) for value in values):
        return []
    if len(values) < 2:
        raise ConfigError(f"{source} has fewer than two labels, so there is nothing to tell apart.")
    if all(type(value) is int for value in values):
        if min(values) >= 0 and max(values) < max(LARGEST_ID, len(values)):
            return [str(number) for number in range(max(values) + 1)]
        return [str(number) for number in sorted(values)]
    return sorted(map(_label_name, values))


def _label_name(label: Any) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)


def classification_examples(records: Dataset, labels: list[str], source: str) -> Dataset:
    """Records as text, maybe text_pair, and the label's id, or where there are no classes the number.

    Raises:
        ConfigError: a text is empty, or a label is not among ``labels``, or not a number.
    """
    names = getattr(records.features["label"], "names", None)
    ids = {label: number for number, label in enumerate(labels)}
    texts = [name for name in ("text", "text_pair") if name in records.column_names]

    def label_id(label: Any) -> float:
        if not labels:
            return _number(label, source)
        name = _label_name(label) if names is None else names[label]
        if name not in ids:
            known = shortened(", ".join(map(repr, labels)))
            raise ConfigError(f"{source} has the label {shown(name)}, which is not among the training labels {known}.")
        return ids[name]

    columns: dict[str, list[Any]] = {name: [] for name in (*texts, "label")}
    for number, record in enumerate(records, start=1):
        try:
            for name in texts:
                columns[name].append(_text(record, name, may_be_empty=name == "text_pair"))
        except ValueError as error:
            raise ConfigError(f"Record {number} of {source} is no classification example ({error}).") from None
        columns["label"].append(label_id(record["label"]))
    return Dataset.from_dict(columns)


def _number(label: Any, source: str) -> float:
    if isinstance(label, int | float) and not isinstance(label, bool) and math.isfinite(label):
        return float(label)
    raise ConfigError(f"{source} has the label {shown(label)}, and the training labels are numbers.")


def _completion(record: Mapping[str, Any], chat: bool) -> Iterator[dict[str, Any]]:
    if "completion" in record:
        yield {"prompt": _text(record, "prompt"), "completion": _text(record, "completion")}
    else:
        yield {"text": _text(record, "text")}


def _instruction(record: Mapping[str, Any], chat: bool) -> Iterator[dict[str, Any]]:
    instruction, answer = _text(record, "instruction"), _text(record, "output")
    extra = "" if record.get("input") is None else _text(record, "input", may_be_empty=True)
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
    messages = [{part: _text(message, part) for part in ("role", "content")} for message in record["messages"] or []]
    answered = False
    for index, message in enumerate(messages):
        if message["role"] == "assistant" and index:
            answered = True
            yield {"prompt": messages[:index], "completion": [message]}
    if not answered:
        raise ValueError("no turn of the assistant follows another message")


def _text(record: Mapping[str, Any], name: str, *, may_be_empty: bool = False) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not (value or may_be_empty):
        raise ValueError(f"its {name} is {shown(value)}, not text")
    return value
