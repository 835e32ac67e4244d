"""Training examples from records: what is the prompt, what is learned, and which classes there are."""

import math
from collections.abc import Mapping
from typing import Any

from roselora.errors import ConfigError, shortened
from roselora.training.example_shapes import Shape
from roselora.training.record_reading import Records
from roselora.user_files import shown

LARGEST_ID = 1000
"""A whole number below it is the id of a class, however few classes there are."""

_ALPACA = (
    "Below is an instruction that describes a task{with_input}. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{instruction}\n\n{input_block}### Response:\n"
)


def causal_examples(record: Mapping[str, Any], shape: Shape, *, chat: bool) -> list[dict[str, Any]]:
    """The examples of one validated record, as trl knows them: a prompt and the completion to learn, or a text.

    A conversation gives one example for each turn of the assistant, since few chat templates can mark all of them.

    Args:
        chat: whether an instruction becomes a message, for the tokenizer's chat template, or Alpaca's text.

    >>> causal_examples({"instruction": "Add.", "output": "3", "input": "1 2"}, "instruction", chat=True)[0]["prompt"]
    [{'role': 'user', 'content': 'Add.\\n\\n1 2'}]
    """
    if shape == "chat":
        messages = record["messages"]
        return [
            {"prompt": messages[:index], "completion": [message]}
            for index, message in enumerate(messages)
            if message["role"] == "assistant" and index
        ]
    if shape == "completion":
        return [dict(record)]
    instruction, extra, answer = record["instruction"], record["input"], record["output"]
    if chat:
        content = f"{instruction}\n\n{extra}" if extra else instruction
        prompt = [{"role": "user", "content": content}]
        return [{"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}]
    text = _ALPACA.format(
        instruction=instruction,
        with_input=", paired with an input that provides further context" if extra else "",
        input_block=f"### Input:\n{extra}\n\n" if extra else "",
    )
    return [{"prompt": text, "completion": answer}]


def labels_of(records: Records, source: str) -> list[str]:
    """The names of the classes, in the order of their ids; none if the labels are numbers with a fraction.

    Whole numbers are ids, and every number up to the largest is a class. If one is negative or too large to be an id,
    they are names, like texts, and yes and no.

    Raises:
        ConfigError: there are fewer than two.
    """
    if records.class_names is not None:
        return list(records.class_names)
    values = set(records.rows["label"])
    if all(isinstance(value, float) for value in values):
        return []
    if len(values) < 2:
        raise ConfigError(f"{source} has fewer than two labels, so there is nothing to tell apart.")
    if all(type(value) is int for value in values):
        if min(values) >= 0 and max(values) < max(LARGEST_ID, len(values)):
            return [str(number) for number in range(max(values) + 1)]
        return [str(number) for number in sorted(values)]
    return sorted(map(_label_name, values))


def label_ids(records: Records, labels: list[str], source: str) -> list[float]:
    """The id of each record's class, or, if there are no classes, the number itself.

    Raises:
        ConfigError: a label is not among ``labels``, or is not a number.
    """
    ids = {label: number for number, label in enumerate(labels)}
    found: list[float] = []
    for label in records.rows["label"]:
        if not labels:
            if isinstance(label, bool | str) or not math.isfinite(label):
                raise ConfigError(f"{source} has the label {shown(label)}, and the training labels are numbers.")
            found.append(float(label))
            continue
        name = _label_name(label) if records.class_names is None else records.class_names[label]
        if name not in ids:
            known = shortened(", ".join(map(repr, labels)))
            raise ConfigError(f"{source} has the label {shown(name)}, which is not among the training labels {known}.")
        found.append(ids[name])
    return found


def _label_name(label: Any) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)
