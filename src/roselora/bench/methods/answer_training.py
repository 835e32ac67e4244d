"""Training some parameters of a model until it gives the answers of all requests: for fine-tuning, adapters, GRACE."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from roselora.editing.methods.adam_steps import adam_steps
from roselora.editing.methods.setting_bounds import BoundedSettings, number, whole
from roselora.editing.methods.token_batches import IGNORED, LabelledRow, TokenBatch, token_batch
from roselora.errors import NonFiniteError
from roselora.models.inference import Progress, counted, known_arguments
from roselora.models.padding import padded_inputs
from roselora.models.prefix_cache import PrefixCache


@dataclass(frozen=True)
class TrainingConfig(BoundedSettings):
    """Settings of the training.

    Attributes:
        learning_rate: of Adam.
        epochs: passes over all requests, at most; where they fit in one batch, each is one step.
        stop_loss: training stops when an epoch's loss, in nats per token, is below this.
        seed: of the order of the requests, and of whatever a method draws at random.

    Raises:
        ConfigError: a value is out of its range.
    """

    learning_rate: float = number(5e-4, above=0)
    epochs: int = whole(25, least=1)
    stop_loss: float = number(0.01, least=0)
    seed: int = 0


@dataclass(frozen=True)
class BatchTrainingConfig(TrainingConfig):
    """Settings of a training that goes through the requests in batches.

    Attributes:
        batch_size: requests of a step.
    """

    batch_size: int = whole(1, least=1)

    def steps(self, requests: int) -> int:
        """The optimizer steps that training on this many requests takes if it does not stop early."""
        return self.epochs * math.ceil(requests / self.batch_size)


def mean_answer_loss(model: nn.Module, batch: TokenBatch) -> Tensor:
    """Mean cross-entropy of the labelled tokens, in nats.

    Logits are computed only at positions where some row has a label, if the model's forward pass allows that.
    """
    positions = (batch.labels != IGNORED).any(0).nonzero()[:, 0]
    options = known_arguments(model, logits_to_keep=positions, use_cache=False)
    labels = batch.labels[:, positions] if "logits_to_keep" in options else batch.labels
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **options).logits
    labelled = labels != IGNORED
    return functional.cross_entropy(logits[labelled].float(), labels[labelled])


def train_answers(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    rows: Sequence[Sequence[LabelledRow]],
    config: TrainingConfig,
    *,
    batch_size: int = 1,
    after_step: Callable[[int], None] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    first_stop: int = 0,
    first_block: int = 0,
    on_progress: Progress | None = None,
) -> int:
    """Train ``parameters``, and nothing else, until the model gives the requests' answers; returns the steps taken.

    Each epoch goes over all requests in shuffled order. Once the loss of its last step is known, and before that step
    is taken, the epoch's mean loss over answer tokens decides whether training stops. Afterwards, on errors too, the
    parameters require gradients as they did before; on an error the caller restores their values.

    Args:
        model: in the mode, train or eval, in which it is trained.
        rows: those of each request, see `answer_rows`.
        batch_size: requests of a step.
        after_step: called with each step's number, from 0, before its gradients are cleared.
        penalty: a term that is added to the loss for its gradient, and is not part of the loss that ``stop_loss``
            bounds.
        first_stop: steps before which training never stops.
        first_block: the index of the lowest block that training changes, where the model is one of blocks: the inputs
            of this block are computed once, not at every step.
        on_progress: counts epochs.

    Raises:
        NonFiniteError: a loss or a trained parameter is NaN or infinite.
    """
    device = next(model.parameters()).device
    order = random.Random(config.seed)
    ends = list(accumulate(map(len, rows)))
    of_request = [range(end - len(own), end) for own, end in zip(rows, ends, strict=True)]
    flat = [row for own in rows for row in own]
    cache = _prefix_cache(model, flat, first_block)
    steps = adam_steps(parameters, config.learning_rate, after_step)
    with _training_only(model, parameters):
        step = next(steps)
        for _ in counted(range(config.epochs), on_progress):
            shuffled = order.sample(range(len(rows)), len(rows))
            total, tokens = 0.0, 0
            for start in range(0, len(rows), batch_size):
                picked = [row for request in shuffled[start : start + batch_size] for row in of_request[request]]
                batch = token_batch([flat[row] for row in picked], device)
                with nullcontext() if cache is None else cache.skipping(picked):
                    loss = mean_answer_loss(model, batch)
                labelled = int((batch.labels != IGNORED).sum())
                total, tokens = total + _finite(loss, step, config) * labelled, tokens + labelled
                is_last = start + batch_size >= len(rows)
                if is_last and step >= first_stop and total / tokens < config.stop_loss:
                    return step
                torch.autograd.backward(loss if penalty is None else loss + penalty())
                step = next(steps)
        if not all(bool(parameter.isfinite().all()) for parameter in parameters):
            raise NonFiniteError(f"Step {step} left the weights not finite; lower learning_rate.")
    return step


def _prefix_cache(model: nn.Module, rows: Sequence[LabelledRow], first_block: int) -> PrefixCache | None:
    """What enters the lowest block that changes, if there are blocks below it."""
    if not first_block or not isinstance(model, PreTrainedModel):
        return None
    # One by one: a batch of all would take much memory, most of it for padding.
    return PrefixCache(model, padded_inputs([row.ids for row in rows]), block=first_block, batch_size=1)


def _finite(loss: Tensor, step: int, config: TrainingConfig) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise NonFiniteError(
            f"The loss is {value} after {step} steps; lower learning_rate ({config.learning_rate}), or load the model "
            "in float32."
        )
    return value


@contextmanager
def _training_only(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Inside, only these parameters require gradients, so backpropagation ends at the lowest of them."""
    before = [(parameter, parameter.requires_grad) for parameter in (*model.parameters(), *parameters)]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, requires_grad in before:
            parameter.requires_grad_(requires_grad)
        for parameter in parameters:
            parameter.grad = None
