"""The bodies of the API's requests; whatever is not as described here is refused before the model is asked."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from roselora.editing.request import EditRequest, Form

Text = Annotated[str, StringConstraints(min_length=1, max_length=8_000)]
Texts = Annotated[list[Text], Field(max_length=64)]
Id = Annotated[str, StringConstraints(pattern="^[0-9a-f]{4,12}$")]


class Body(BaseModel):
    """What all have in common: nothing unknown, and no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Ask(Body):
    """Questions to the base and the edited model."""

    prompt: Text
    form: Literal["bare", "chat"] = "bare"
    follow_up: Text | None = None
    tokens: Annotated[int, Field(ge=1, le=256)] = 48


class Suggest(Body):
    """A prompt whose subject, rephrasings and neighbours are to be suggested; with a target, consequences too."""

    prompt: Text
    target: Text | None = None
    subject: Text | None = None


class Consequence(Body):
    """A fact that follows from another."""

    prompt: Text
    target: Text
    subject: Text | None = None
    rephrasings: Texts = []


class Edit(Body):
    """A fact to edit; as `EditRequest`, and the method and whether to commit it."""

    prompt: Text
    target: Text
    subject: Text | None = None
    rephrasings: Texts = []
    keep: Texts = []
    form: Form = "both"
    consequences: Annotated[list[Consequence], Field(max_length=16)] = []
    method: Literal["gate", "rose"] = "gate"
    dry_run: bool = False
    held_out: Annotated[Texts, Field(description="Rephrasings that are asked afterwards, and not trained on.")] = []

    def request(self) -> EditRequest:
        """The request that the editor takes.

        Raises:
            ConfigError: as `EditRequest`.
        """
        implied = tuple(
            EditRequest(fact.prompt, fact.target, fact.subject, tuple(fact.rephrasings), form=self.form)
            for fact in self.consequences
        )
        return EditRequest(
            self.prompt,
            self.target,
            self.subject,
            tuple(self.rephrasings),
            tuple(self.keep),
            form=self.form,
            consequences=implied,
        )


class Many(Body):
    """A file of facts."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=900_000)]
    kind: Literal["jsonl", "json", "csv"]
    method: Literal["gate", "rose"] = "gate"


class Switch(Body):
    """An edit to undo or redo."""

    id: Id


class Note(Body):
    """A note on an edit."""

    id: Id
    text: Text


class Nothing(Body):
    """No arguments."""


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ValueError("a name has up to 64 letters, digits, dots, dashes and underscores, a letter or digit first")
    return name


class ExportTo(Body):
    """A format, and a name within the folder of exports."""

    format: Literal["model", "lora", "gguf", "gguf-lora", "mlx", "patch"]
    name: Annotated[str, AfterValidator(_plain_name)]
