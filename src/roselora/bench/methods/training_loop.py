"""The one training loop of the methods that descend a gradient."""

import inspect
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.adam_steps import adam_steps
from roselora.editing.methods.token_batches import IGNORED, TokenBatch, answer_batch, concatenate
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, NonFiniteError
from roselora.models.frozen_blocks import lower_blocks
from roselora.models.inference import Progress, counted


@dataclass(frozen=True)
class Descent:
    """How a method descends.

    Attributes:
        learning_rate: of Adam.
        epochs: passes over all requests, at most; where they fit in one batch, each is one step.
        batch_size: requests of a step.
        stop_loss: training stops when an epoch's loss, in nats a token, is below this.
        seed: of the order of the requests, and of whatever a method draws at random.

    Raises:
        ConfigError: a value that cannot work.
    """

    learning_rate: float = 5e-4
    epochs: int = 25
    batch_size: int = 1
    stop_loss: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate must be above 0 and finite, not {self.learning_rate}.")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.stop_loss < math.inf:
            raise ConfigError(f"stop_loss must be at least 0 and finite, not {self.stop_loss}.")

    def steps(self, requests: int) -> int:
        """The optimizer steps that training on so many requests takes if it does not stop early."""
        return self.epochs * math.ceil(requests / self.batch_size)


def answer_rows(tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest]) -> list[TokenBatch]:
    """For each request its prompts, each followed by the target and the end-of-sequence token.

    Raises:
        ConfigError: there are no requests, or one cannot be tokenized.
    """
    if not requests:
        raise ConfigError("There are no requests to edit by; give at least one.")
    return [answer_batch(tokenizer, request, request.prompts) for request in requests]


def answer_loss(model: nn.Module, batch: TokenBatch) -> Tensor:
    """Mean cross-entropy of the labelled tokens, in nats; logits are computed where some row has a label.

    Models that compute logits everywhere or not at all do so here too.
    """
    accepted = inspect.signature(model.forward).parameters
    labels = batch.labels
    options: dict[str, Tensor | bool] = {}
    if "logits_to_keep" in accepted:
        positions = (labels != IGNORED).any(0).nonzero()[:, 0]
        options["logits_to_keep"], labels = positions, labels[:, positions]
    if "use_cache" in accepted:
        options["use_cache"] = False
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **options).logits
    looked_at = labels != IGNORED
    return functional.cross_entropy(logits[looked_at].float(), labels[looked_at])


def descend(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    rows: Sequence[TokenBatch],
    config: Descent,
    *,
    after_step: Callable[[int], None] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    first_stop: int = 0,
    first_block: int = 0,
    on_progress: Progress | None = None,
) -> int:
    """Train ``parameters``, and nothing else, until the model gives the rows' answers; returns the steps taken.

    Each epoch goes over all rows in shuffled batches. Once its last batch's loss is known, and before that batch's
    step, the epoch's mean loss over answer tokens decides whether training stops. Which parameters require gradients
    is put back afterwards, on errors too; the parameters' values on an error are the caller's to put back.

    Args:
        model: in the mode, train or eval, in which it shall be trained.
        rows: one batch for each request, see `answer_rows`.
        after_step: called with each step's number, from 0, before its gradients are cleared.
        penalty: a term added to the loss that is descended, and not to the one that stops.
        first_stop: steps before which training never stops.
        first_block: the index of the lowest block that training changes, where the model is one of blocks: what comes
            into it is computed once and not at every step.
        on_progress: counts epochs.

    Raises:
        NonFiniteError: a loss or a trained parameter is NaN or infinite.
    """
    device = next(model.parameters()).device
    order = random.Random(config.seed)
    passes = _Passes(model, rows, first_block)
    steps = adam_steps(parameters, config.learning_rate, after_step)
    with _training_only(model, parameters):
        step = next(steps)
        for _ in counted(range(config.epochs), on_progress):
            shuffled = order.sample(range(len(rows)), len(rows))
            total, tokens = 0.0, 0
            for start in range(0, len(rows), config.batch_size):
                picked = shuffled[start : start + config.batch_size]
                batch = concatenate([rows[i] for i in picked]).to(device)
                with passes.of(picked):
                    loss = answer_loss(model, batch)
                looked_at = int((batch.labels != IGNORED).sum())
                total, tokens = total + _finite(loss, step, config) * looked_at, tokens + looked_at
                last = start + config.batch_size >= len(rows)
                if last and step >= first_stop and total / tokens < config.stop_loss:
                    return step
                torch.autograd.backward(loss if penalty is None else loss + penalty())
                step = next(steps)
        if not all(bool(parameter.isfinite().all()) for parameter in parameters):
            raise NonFiniteError(f"Step {step} left the weights not finite; lower learning_rate.")
    return step


class _Passes:
    """Forward passes of chosen requests that begin at the lowest block that changes, where the model allows it."""

    def __init__(self, model: nn.Module, rows: Sequence[TokenBatch], first_block: int) -> None:
        lengths = [batch.attention_mask.sum(1).tolist() for batch in rows]
        texts = [
            [ids[:length].tolist() for ids, length in zip(batch.input_ids, own, strict=True)]
            for batch, own in zip(rows, lengths, strict=True)
        ]
        ends = list(accumulate(map(len, texts)))
        self._rows = [range(end - len(own), end) for own, end in zip(texts, ends, strict=True)]
        flat = [text for own in texts for text in own]
        self._lower = lower_blocks(model, first_block, flat) if isinstance(model, PreTrainedModel) else None

    def of(self, picked: Sequence[int]) -> AbstractContextManager[None]:
        """Around the forward pass of these requests, joined in this order."""
        if self._lower is None:
            return nullcontext()
        return self._lower.skipped([row for index in picked for row in self._rows[index]])


def _finite(loss: Tensor, step: int, config: Descent) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise NonFiniteError(
            f"The loss is {value} after {step} steps; lower learning_rate ({config.learning_rate}), or load the model "
            "in float32."
        )
    return value


@contextmanager
def _training_only(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let these parameters alone require gradients inside; so nothing is back-propagated below the lowest one."""
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
