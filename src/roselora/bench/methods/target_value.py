"""The value that a layer must write at a subject so that the model says a target: found by gradient descent."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.locate_then_edit import LocateConfig
from roselora.bench.methods.module_states import Context, left_padded, read_states
from roselora.bench.methods.subject_position import subject_end
from roselora.editing.methods.adam_steps import adam_steps
from roselora.editing.methods.token_batches import IGNORED
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.float64 import double
from roselora.models.activation_hooks import hooked
from roselora.models.inference import frozen
from roselora.models.padding import pad_rows
from roselora.models.partial_logits import logits_of
from roselora.models.prefix_cache import PrefixCache
from roselora.models.tokenization import encode


@dataclass(frozen=True)
class Value:
    """What is to be added to a module's output at the subject.

    Attributes:
        delta: (width,) fp64.
        steps: optimizer steps taken.
        loss: mean loss of the answer's tokens, in nats, with this change.
    """

    delta: Tensor
    steps: int
    loss: float


def optimize_value(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    request: EditRequest,
    contexts: Sequence[Context],
    module: str,
    config: LocateConfig,
) -> Value:
    """The change δ of a module's output at the subject's last token that makes the model say the target and stop.

    Minimizes the mean negative log-likelihood of target and end-of-sequence token over the contexts, plus
    KL(edited || base) of what follows "<subject> is a", plus weight decay, with |δ| clamped (ROME, arXiv 2202.05262,
    Eq. 4; MEMIT, arXiv 2210.07229, Eq. 16, does the same on a block's output). The end-of-sequence token is ours:
    the papers use teacher forcing and never ask whether the model stops. No gradient is taken below the module,
    and what stands before the subject is computed once.

    Raises:
        EditError: the loss became NaN or infinite.
    """
    rows = [Context([*row.ids, *row.answer[:-1]], row.position) for row in contexts]
    answers = pad_rows([list(row.answer) for row in contexts], side="left", fill=IGNORED)
    essence = _essence(tokenizer, request)
    start = read_states(model, contexts[:1], outputs_of=[module])[module].norm().float()
    with frozen(model):
        inputs, at = left_padded(model, [*rows, *essence])
        cache = PrefixCache(model, inputs, start=int(at.min()))
        wanted = answers.flatten().to(at.device)
        delta = torch.zeros(model.config.hidden_size, device=start.device, requires_grad=True)
        base: Tensor | None = None
        for step in adam_steps([delta], config.learning_rate):
            _clamp(delta, config.clamp * float(start))
            with _added(model.get_submodule(module), delta, at - cache.begin):
                states = cache.run(range(len(at)))
            predicted = logits_of(model, states[:, -answers.shape[1] :]).log_softmax(-1)
            loss = functional.nll_loss(predicted[: len(rows)].flatten(0, 1), wanted, ignore_index=IGNORED)
            if not bool(loss.isfinite()):
                raise EditError(f"The value for {request.prompt!r} diverged: lower learning_rate ({config}).")
            if step == config.steps or float(loss.detach()) < config.stop_loss:
                break
            total = loss + config.weight_decay * (delta.square().sum() / start.square()).to(loss.device)
            if essence:
                now = predicted[-1, -1]
                base = now.detach() if base is None else base
                total = total + config.kl_weight * functional.kl_div(base, now, log_target=True, reduction="sum")
            torch.autograd.backward(total)
    return Value(double(delta.detach()), step, float(loss.detach()))


def _essence(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> list[Context]:
    """The row of "<subject> is a", or none where no subject is named or it is only the first token."""
    if not request.subject:
        return []
    text = f"{request.subject.strip()} is a"
    position = subject_end(tokenizer, text, request.subject)
    return [Context(encode(tokenizer, text), position)] if position else []


@torch.no_grad()
def _clamp(delta: Tensor, longest: float) -> None:
    length = float(delta.norm())
    if length > longest:
        delta.mul_(longest / length)


def _added(module: nn.Module, delta: Tensor, at: Tensor) -> AbstractContextManager[None]:
    """Inside, a vector is added to the module's output at one position of each row."""

    def add(_: Tensor, states: Tensor) -> Tensor:
        each = torch.arange(len(at), device=states.device)
        change = delta.to(states).expand(len(at), -1)
        return states.index_put((each, at.to(states.device)), change, accumulate=True)

    return hooked(outputs={module: add})
