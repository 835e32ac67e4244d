"""No edit: the model as it is, under the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress


@dataclass(frozen=True)
class NoEditConfig:
    """Nothing to set.

    Attributes:
        seed: without effect here; every method's config has one.
    """

    seed: int = 0


def no_edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: NoEditConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Change nothing: what an untouched model scores is the zero of every table."""
    return Applied(tuple(requests), lambda: None, entries=0)
