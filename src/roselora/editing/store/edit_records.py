"""What the edit store remembers: the base model, the edits, and the history of events."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, Json

from roselora.editing.request import EditRequest
from roselora.errors import ConfigError

ID_LENGTH = 12
"""Hexadecimal digits in an edit's id."""


def _timestamp(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Timestamp = Annotated[str, AfterValidator(_timestamp)]
"""UTC, ISO 8601."""


@dataclass(frozen=True)
class BaseIdentity:
    """The model that a store's edits are made for.

    Attributes:
        name: what the user called it; shown only, never compared.
        architecture: such as "LlamaForCausalLM".
        sha256: the fingerprint over all of its weights, 64 lower-case hexadecimal digits.
        dtype: the dtype in which the weights were loaded, such as "float32"; None if unknown.

    Raises:
        ConfigError: `sha256` has another form.

    >>> print(BaseIdentity("demo", "LlamaForCausalLM", "0123456789abcdef" * 4))
    demo (LlamaForCausalLM, 0123456789ab)
    """

    name: str
    architecture: str
    sha256: str
    dtype: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ConfigError(f"A base's sha256 must be 64 lower-case hexadecimal digits, not {self.sha256!r}.")

    def __str__(self) -> str:
        return f"{self.name} ({self.architecture}, {self.sha256[:ID_LENGTH]})"

    def is_same_model(self, other: "BaseIdentity") -> bool:
        """Whether architecture and weights are the same, whatever the names."""
        return (self.architecture, self.sha256) == (other.architecture, other.sha256)

    def differs_only_in_dtype(self, other: "BaseIdentity") -> bool:
        """Whether name and architecture are the same and only the dtypes, both known, differ."""
        same = (self.name, self.architecture) == (other.name, other.architecture)
        return same and None not in (self.dtype, other.dtype) and self.dtype != other.dtype

    def as_detail(self) -> dict[str, str]:
        """The known attributes, as the detail of an event."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class StoredEdit:
    """One edit in the store; `Json` marks what its database column holds as JSON text.

    Attributes:
        position: its place in commit order, from 1; deltas are summed in this order.
        id: 12 hexadecimal digits; users may give any prefix that no other edit shares.
        request: what the user asked for.
        delta_sha256: the SHA-256 of the delta's file, which is also the file's name.
        provenance: how the edit was made: settings, seed, versions, answers; see `provenance.Provenance`.
        created: UTC, ISO 8601.
        active: False once it is undone.
    """

    position: int
    id: str
    request: Json[EditRequest]
    delta_sha256: Sha256
    provenance: Json[Mapping[str, Any]]
    created: Timestamp
    active: bool


@dataclass(frozen=True)
class Event:
    """One entry of a store's history, which only grows.

    Attributes:
        number: from 1 on, without gaps.
        edit: the id of the edit that the event is about, or None if it is about the whole store.
        kind: "create" and "force" (detail: the base), "edit", "undo", "redo", "note" (detail: text).
        detail: plain JSON.
        time: UTC, ISO 8601.
    """

    number: int
    edit: str | None
    kind: str
    detail: Json[Mapping[str, Any]]
    time: Timestamp
