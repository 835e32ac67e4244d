"""What the editor reads back from an edit's provenance; another program may have written anything there."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

_Part = TypeVar("_Part")


def _or_none(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


Lenient = Annotated[_Part | None, WrapValidator(_or_none)]
"""A part that is None where it is missing or has another form than the editor writes."""

EARLIER_NAMES = {"roselora": "rose", "roselora-neurons": "gate"}
"""Methods by the names that earlier versions gave them."""


def without_removed_settings(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """An edit method's settings without those that earlier versions had, where they had no effect.

    >>> without_removed_settings("gate", {"depth": 0.86, "seed": 0})
    {'depth': 0.86}
    >>> without_removed_settings("rose", {"rank": 8, "retention": 0.0, "seed": 0})
    {'rank': 8, 'seed': 0}
    """
    removed = {"seed"} if method == "gate" else {"retention"} if settings.get("retention") == 0 else set()
    return {name: value for name, value in settings.items() if name not in removed}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class RecordedAnswer(_Strict):
    """The model's answers to one of an edit's prompts; `kind` is one of `edit_answers.Kind`.

    Attributes:
        form: in which it was asked, see `forms`. Earlier versions asked in the bare form alone and did not name it.
        target: what it had to become; None for a keep-prompt, and where an earlier version did not name it.
    """

    kind: str
    prompt: str
    before: str
    after: str
    form: str = "bare"
    target: str | None = None


class UpdateSize(_Strict):
    """How many entries of the touched matrices the edit changes, and how sparse it is guaranteed to be."""

    entries_changed: int
    entries: int
    sparsity: float
    sparsity_bound: float


class TrainingCost(_Strict):
    """How long an edit was trained."""

    steps: int
    seconds: float


class ReplacedNeurons(_Strict):
    """Neurons of one block that an edit replaced."""

    block: int
    indices: list[int]


def _as_list(value: Any) -> Any:
    """Earlier versions wrote the neurons of the only block as they are, without a list."""
    return [value] if isinstance(value, Mapping) else value


class WeightsState(_Strict):
    """What was active before an edit, and the hashes of the weights that it touches, with it applied.

    Attributes:
        after: see `edited_model.active_digest`; older stores list the ids themselves.
        weights: `files.sha256_tensor` of each weight, by its name.
    """

    after: str | list[str]
    weights: dict[str, str]


class LeftOut(_Strict):
    """A consequence that was asked for and could not be made, and why."""

    prompt: str
    target: str
    reason: str

    def __str__(self) -> str:
        return f"{self.prompt} => {self.target}: {self.reason}"


class Provenance(BaseModel):
    """The parts that the editor reads back; each is None where it is missing or malformed.

    Attributes:
        method: "gate" or "rose", also where an earlier version called it by another name.
    """

    method: Lenient[Annotated[str, AfterValidator(lambda name: EARLIER_NAMES.get(name, name))]] = None
    answers: Lenient[list[RecordedAnswer]] = None
    update: Lenient[UpdateSize] = None
    training: Lenient[TrainingCost] = None
    neurons: Lenient[Annotated[list[ReplacedNeurons], BeforeValidator(_as_list)]] = None
    settings: Lenient[dict[str, Any]] = None
    versions: Lenient[dict[str, str]] = None
    state: Lenient[WeightsState] = None
    supersedes: Lenient[list[str]] = None
    left_out: Lenient[list[LeftOut]] = None
    repairs: Lenient[str] = None


def read_provenance(provenance: Mapping[str, Any]) -> Provenance:
    """The known parts of a stored edit's provenance; never raises.

    >>> read_provenance({"method": "roselora", "repairs": 7})
    Provenance(method='rose', answers=None, update=None, training=None, neurons=None, settings=None, versions=None, \
state=None, supersedes=None, left_out=None, repairs=None)
    """
    return Provenance.model_validate(dict(provenance))
