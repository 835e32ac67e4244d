"""No edit: the model as it is, asked the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import Applied, Method
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress


@dataclass(frozen=True)
class NoEditConfig:
    """No settings."""


def no_edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: NoEditConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Change nothing: the scores of the unedited model are the zero of every table."""
    return Applied(tuple(requests), lambda: None, entries=0)


METHOD = Method("no-edit", no_edit, NoEditConfig(), "none")
