"""What an edit's provenance says, as far as it can be understood: another program may have written anything there."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

_Part = TypeVar("_Part")


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


Understood = Annotated[_Part | None, WrapValidator(_or_none)]
"""A part that is None where it is missing, or is not what the editor writes there."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


RENAMED = {"roselora": "rose", "roselora-neurons": "gate"}
"""Methods by the names that earlier versions gave them."""


def _of_today(method: str) -> str:
    return RENAMED.get(method, method)


class Answer(_Strict):
    """What the model said to one of an edit's prompts; `kind` is "prompt", "rephrasing" or "keep"."""

    kind: str
    prompt: str
    before: str
    after: str


class Update(_Strict):
    """How many of the touched matrices' entries the edit changes, and how sparse it must be at least."""

    entries_changed: int
    entries: int
    sparsity: float
    sparsity_bound: float


class Training(_Strict):
    """How long an edit was trained."""

    steps: int
    seconds: float


class Neurons(_Strict):
    """Which neurons an edit replaced."""

    block: int
    indices: list[int]


class State(_Strict):
    """What was active before an edit, and the hashes of the weights that it touches, with it applied.

    Attributes:
        after: see `edited_weights.active_digest`; older stores have the list of the ids itself.
        weights: from the name of each to its `files.sha256_tensor`.
    """

    after: str | list[str]
    weights: dict[str, str]


class Provenance(BaseModel):
    """The parts that the editor itself reads again; each is None where it cannot be understood.

    Attributes:
        method: "gate" or "rose", whatever an earlier version called it.
    """

    method: Understood[Annotated[str, AfterValidator(_of_today)]] = None
    answers: Understood[list[Answer]] = None
    update: Understood[Update] = None
    training: Understood[Training] = None
    neurons: Understood[Neurons] = None
    settings: Understood[dict[str, Any]] = None
    versions: Understood[dict[str, str]] = None
    state: Understood[State] = None
    supersedes: Understood[list[str]] = None
    repairs: Understood[str] = None


def understood(provenance: Mapping[str, Any]) -> Provenance:
    """The parts of a stored edit's provenance; raises nothing, whatever is there."""
    return Provenance.model_validate(dict(provenance))
