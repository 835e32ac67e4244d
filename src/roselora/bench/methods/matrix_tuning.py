"""Fine-tuning one matrix of a model: what FT-L, FT-M and LocFT-BF have in common."""

from collections.abc import Callable
from dataclasses import dataclass

from roselora.bench.methods.answer_training import BatchTrainingConfig, train_answers
from roselora.bench.methods.edit_method import Applied, EditCall
from roselora.bench.methods.edited_layer import LayerConfig, edited_layer
from roselora.bench.methods.weight_changes import Snapshot, undone_on_error
from roselora.editing.methods.token_batches import answer_rows
from roselora.models.inference import eval_mode


@dataclass(frozen=True)
class MatrixConfig(BatchTrainingConfig, LayerConfig):
    """Which matrix is trained, and how; see `BatchTrainingConfig` and `LayerConfig`."""


def tune_matrix(call: EditCall[MatrixConfig], after_step: Callable[[int], None] | None = None) -> Applied:
    """Train the matrix of the config, in its own dtype, on the answers of all requests; progress is in epochs.

    Args:
        after_step: called with each step's number after the step.

    Raises:
        ConfigError: the model does not have the layer.
        NonFiniteError: the loss diverged; the model is as it was.
    """
    model, config = call.model, call.config
    rows = [answer_rows(call.tokenizer, request) for request in call.requests]
    weight = edited_layer(model, config)[1].get_parameter("weight")
    with undone_on_error(Snapshot([weight])) as snapshot, eval_mode(model):
        steps = train_answers(
            model,
            [weight],
            rows,
            config,
            batch_size=config.batch_size,
            after_step=after_step,
            first_block=config.block(model),
            on_progress=call.on_progress,
        )
    return Applied(tuple(call.requests), snapshot.restore, snapshot.entries(), steps)
