"""The shapes of training data: for each, the pydantic model that one record of it must fit."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Shape = Literal["instruction", "chat", "completion", "classification"]

MOST_MESSAGES = 1000
"""Of a conversation: each answer becomes an example together with all messages before it."""

# pydantic refuses a lone surrogate, which JSON can write, only in a text whose length it checks.
AnyText = Annotated[str, Field(min_length=0)]
Text = Annotated[str, Field(min_length=1)]


class ExampleRecord(BaseModel):
    """One record with the columns of its shape: others are ignored, and no value is converted to another type."""

    model_config = ConfigDict(strict=True, frozen=True)


class InstructionRecord(ExampleRecord):
    """An instruction, maybe with an input, and the output to learn."""

    instruction: Text
    output: Text
    input: AnyText | None = None


class Message(ExampleRecord):
    """One turn of a conversation."""

    role: Text
    content: Text


def _with_an_answer(messages: list[Message]) -> list[Message]:
    if not any(message.role == "assistant" for message in messages[1:]):
        raise ValueError("no turn of the assistant follows another message")
    return messages


class ChatRecord(ExampleRecord):
    """A conversation in which the assistant answers at least once."""

    messages: Annotated[list[Message], Field(max_length=MOST_MESSAGES), AfterValidator(_with_an_answer)]


def _name_or_number(label: Any) -> Any:
    if isinstance(label, str) and label:
        label.encode()  # a lone surrogate, which JSON can write, raises a ValueError here
    elif not (abs(label) < 2**63 if isinstance(label, int) else isinstance(label, float) and math.isfinite(label)):
        raise ValueError("labels are names, whole numbers, or numbers with a decimal point")
    return label


Label = Annotated[Any, AfterValidator(_name_or_number)]


class LabelledRecord(ExampleRecord):
    """A text and its class or number."""

    text: Text
    label: Label


class LabelledPairRecord(LabelledRecord):
    """Two texts and their class or number."""

    text_pair: AnyText


class CompletionRecord(ExampleRecord):
    """A prompt and the completion to learn."""

    prompt: Text
    completion: Text


class TextRecord(ExampleRecord):
    """A text to learn as a whole."""

    text: Text


SHAPES: tuple[tuple[Shape, type[ExampleRecord]], ...] = (
    ("chat", ChatRecord),
    ("instruction", InstructionRecord),
    ("classification", LabelledPairRecord),
    ("classification", LabelledRecord),
    ("completion", CompletionRecord),
    ("completion", TextRecord),
)
"""Records have the first shape whose required columns they have."""


def required_columns(model: type[ExampleRecord]) -> list[str]:
    """The columns that a record cannot do without.

    >>> required_columns(InstructionRecord)
    ['instruction', 'output']
    """
    return [name for name, field in model.model_fields.items() if field.is_required()]


def matching_shape(columns: Iterable[str], shape: Shape | Literal["auto"]) -> tuple[Shape, type[ExampleRecord]] | None:
    """The first shape that records with these columns have, or None; ``shape`` may allow only one.

    >>> matching_shape(["id", "text", "label"], "auto")[0]
    'classification'
    >>> matching_shape(["id", "text", "label"], "completion")[1].__name__
    'TextRecord'
    """
    present = set(columns)
    matches = (
        (name, model)
        for name, model in SHAPES
        if shape in ("auto", name) and present.issuperset(required_columns(model))
    )
    return next(matches, None)
