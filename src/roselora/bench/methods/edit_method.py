"""The interface of an editing method in the benchmark: a call, what it returns, and the row of the table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.inference import Progress


@dataclass(frozen=True)
class Applied:
    """One call of an editing method, whose change is in the model.

    Attributes:
        requests: what the call was asked to edit.
        undo: restores the bytes that the model had before the call. Calls are undone newest first.
        entries: how many entries of the model's weights have another value now.
        steps: optimizer steps taken, 0 where there is no optimizer.
        memory: tensors that the method's next call on this model builds on, such as a codebook, by name.
        earlier_seconds: what the edits that earlier runs had made in this call took to train; these took longer.
    """

    requests: tuple[EditRequest, ...]
    undo: Callable[[], None]
    entries: int
    steps: int = 0
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    earlier_seconds: float = 0.0


Config_co = TypeVar("Config_co", covariant=True)


@dataclass(frozen=True)
class EditCall(Generic[Config_co]):
    """What one call of an editing method is asked: to make the model answer each request's prompt with its target.

    Attributes:
        model, tokenizer: the model that is edited, in place.
        requests: at least one.
        config: the method's settings.
        history: the calls that the method has already made on this model, oldest first.
        on_progress: is told how much of the call is done, counted in whatever the method goes through: requests,
            batches of them, or epochs.
        withheld: the benchmark's questions about the requests; an edit must not be made with them.
        folder: where a call that takes long may keep what it has done, so that a run that is killed goes on with it.

    Raises:
        ConfigError: there are no requests.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    requests: Sequence[EditRequest]
    config: Config_co
    history: Sequence[Applied] = ()
    on_progress: Progress | None = None
    withheld: Sequence[str] = ()
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not self.requests:
            raise ConfigError("There are no edit requests; give at least one.")


@dataclass(frozen=True)
class Method:
    """An editing method; each method's file ends with its own.

    Attributes:
        name: the name by which users ask for it.
        edit: its function. If it raises, the model is as it was before the call.
        config: its default settings, a frozen dataclass.
        paper: the source of the method.
        requests_per_call: how many requests one call is meant for; None for all at once.
        read_text: for a method that measures the model on text before its first edit: takes and caches these
            measurements, so that no edit's time includes them.
        reinstall: for a method whose edits are not in the weights: puts them into a model by its config and the memory
            of a call, and returns the function that takes them out.
        before: for a method that changes no model: from the tokenizer and all requests that were edited, the text that
            is put before every question.
    """

    name: str
    edit: Callable[[EditCall[Any]], Applied]
    config: Any
    paper: str
    requests_per_call: int | None = 1
    read_text: Callable[[PreTrainedModel, PreTrainedTokenizerBase, Any, Progress], object] | None = None
    reinstall: Callable[[PreTrainedModel, Any, Mapping[str, Tensor]], Callable[[], None]] | None = None
    before: Callable[[PreTrainedTokenizerBase, Sequence[EditRequest]], str] | None = None
