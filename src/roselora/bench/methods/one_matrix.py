"""Fine-tuning one matrix of a model: what FT-L, FT-M and LocFT-BF have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied, changing
from roselora.bench.methods.depth_share import Place, edited_block, edited_module
from roselora.bench.methods.training_loop import Descent, answer_rows, descend
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress, evaluating


@dataclass(frozen=True)
class MatrixConfig(Descent, Place):
    """Where the matrix is and how it is trained; see `Descent` and `Place`."""

    def __post_init__(self) -> None:
        Descent.__post_init__(self)
        Place.__post_init__(self)


def tune_matrix(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: MatrixConfig,
    constrain: Callable[[nn.Parameter], Callable[[int], None]] | None = None,
    on_progress: Progress | None = None,
) -> Applied:
    """Train the matrix of ``config``, in its own dtype, on the answers of all requests.

    ``constrain`` gets the matrix before training and gives what is called after each step; ``on_progress`` counts
    epochs.

    Raises:
        ConfigError: no requests, or a place that the model does not have.
        NonFiniteError: the loss diverged; the model is as it was.
    """
    rows = answer_rows(tokenizer, requests)
    weight = edited_module(model, config)[1].get_parameter("weight")
    with changing([weight]) as snapshot, evaluating(model):
        after_step = None if constrain is None else constrain(weight)
        first = edited_block(model, config)
        steps = descend(
            model, [weight], rows, config, after_step=after_step, first_block=first, on_progress=on_progress
        )
    return Applied(tuple(requests), snapshot.restore, snapshot.entries(), steps)
