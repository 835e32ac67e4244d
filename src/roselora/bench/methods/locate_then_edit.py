"""What the locate-and-edit methods share: their settings, the contexts of a request, and an MLP's weight as a memory.

They read an MLP's output layer as an associative memory, W k = v: the key is what reaches it at the last token of
a subject, the value is what it writes there (Meng et al. 2022, arXiv 2202.05262, section 3).
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from roselora.bench.methods.applied_edit import Applied
from roselora.bench.methods.covariance import covariance, keys_width
from roselora.bench.methods.module_states import Row
from roselora.bench.methods.subject_position import subject_end
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, NonFiniteError, UnsupportedError
from roselora.float64 import double
from roselora.models.inference import Progress
from roselora.models.tensor_cache import cache_folder
from roselora.models.tokenization import encode

RIDGE = 1e-6
"""A share of C's mean diagonal that is added to it, for a neuron that never fires makes it singular."""


@dataclass(frozen=True)
class LocateConfig:
    """What every locate-and-edit method can be told.

    steps, learning_rate, stop_loss and kl_weight are those that the methods' authors publish, and so is ROME's clamp,
    which MEMIT has here too; tokens, prefixes and weight_decay are ours, chosen for models that are edited on a
    CPU.

    Attributes:
        text: a file whose keys are to be disturbed little, or None for no such text: C is then the identity.
        tokens: how many of its first tokens are read.
        cache: the folder in which what is learnt of the text is kept, or None to keep it nowhere.
        prefixes: texts put before the prompt, one at a time, so that the edit holds in other contexts too; they are
            chosen from the project's own neutral texts (the papers let the model write them), beside no prefix.
        steps: optimizer steps towards a value, at most.
        learning_rate: of Adam on the value.
        stop_loss: the mean loss of the answer's tokens, in nats, under which a value is good enough.
        kl_weight: weight of the KL divergence of what "<subject> is a" is followed by.
        weight_decay: weight of the squared ratio of the change to what it is added to.
        clamp: that ratio at most.
        seed: of the choice of prefixes.
    """

    text: Path | None = None
    tokens: int = 100_000
    cache: Path | None = field(default_factory=lambda: cache_folder("covariance"))
    prefixes: int = 3
    steps: int = 25
    learning_rate: float = 0.5
    stop_loss: float = 0.05
    kl_weight: float = 0.0625
    weight_decay: float = 1e-3
    clamp: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.prefixes <= len(NEUTRAL_TEXTS):
            raise ConfigError(f"prefixes must be within 0 and {len(NEUTRAL_TEXTS)}, not {self.prefixes}.")
        for name in ("tokens", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("learning_rate", "clamp"):
            check_positive(name, getattr(self, name))
        for name in ("stop_loss", "kl_weight", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be 0 or more and finite, not {getattr(self, name)}.")


def check_positive(name: str, value: float) -> None:
    """Refuse a setting that is not above 0 and finite.

    Raises:
        ConfigError: so it is.
    """
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be above 0 and finite, not {value}.")


def require_some(requests: Sequence[EditRequest]) -> None:
    """Refuse a call that asks for nothing.

    Raises:
        ConfigError: there is no request.
    """
    if not requests:
        raise ConfigError("There is nothing to edit: give at least one request.")


def contexts(tokenizer: PreTrainedTokenizerBase, request: EditRequest, config: LocateConfig) -> list[Row]:
    """The prompt alone, then after each prefix, read at the subject's last token.

    A subject that is nothing but the very first token is passed over for the prompt's last token: at the first
    position models keep a huge key that all texts share, and an edit of it would change them all.
    """
    prompt, subject = request.prompt, request.subject
    if subject_end(tokenizer, prompt, subject) == 0:
        subject = None
    prefixes = random.Random(config.seed).sample(NEUTRAL_TEXTS, config.prefixes)
    rows = []
    for prefix in ("", *(f"{prefix} " for prefix in prefixes)):
        text = prefix + prompt
        ids = encode(tokenizer, text)
        if not ids:
            raise ConfigError(f"The tokenizer makes no tokens of {prompt!r}.")
        rows.append(Row(ids, subject_end(tokenizer, text, subject, len(prefix))))
    return rows


def covariances(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    modules: Sequence[str],
    config: LocateConfig,
    on_progress: Progress | None = None,
) -> dict[str, Tensor]:
    """C of each module by :func:`covariance`, or the identity where the config names no text: (d, d) fp32.

    Call it with a method's modules before a run to show its progress; the method then finds it in the cache.
    """
    if config.text is None:
        return {name: torch.eye(keys_width(memory(model, name))) for name in modules}
    return covariance(
        model, tokenizer, modules, config.text, tokens=config.tokens, cache=config.cache, on_progress=on_progress
    )


def of_base(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    modules: Sequence[str],
    config: LocateConfig,
    history: Sequence[Applied],
) -> dict[str, Tensor]:
    """:func:`covariances` of the model as it was before all edits: earlier calls hand them on in their memory."""
    names = {module: f"covariance/{module}" for module in modules}
    known = history[-1].memory if history else {}
    if all(name in known for name in names.values()):
        return {module: known[name] for module, name in names.items()}
    return covariances(model, tokenizer, modules, config)


def ridged(C: Tensor) -> Tensor:
    """C in fp64 with RIDGE of its mean diagonal added: (d, d), positive definite."""
    C = double(C)
    return C + RIDGE * C.diagonal().mean() * torch.eye(len(C), dtype=C.dtype, device=C.device)


def memory(model: PreTrainedModel, module: str) -> nn.Linear | Conv1D:
    """The layer of that name.

    Raises:
        UnsupportedError: its weight is quantized.
    """
    layer = model.get_submodule(module)
    assert isinstance(layer, nn.Linear | Conv1D)
    if not layer.weight.is_floating_point():
        raise UnsupportedError(f"{module} is quantized ({layer.weight.dtype}): load the model in bf16 or fp32.")
    return layer


def weights(model: PreTrainedModel, modules: Sequence[str]) -> list[nn.Parameter]:
    """The weights of the layers of those names."""
    found: list[nn.Parameter] = [memory(model, module).get_parameter("weight") for module in modules]
    return found


@torch.no_grad()
def add_to(layer: nn.Linear | Conv1D, update: Tensor) -> None:
    """W + update, summed in fp64 and rounded once to the weight's dtype; update is (d_out, d_in).

    Raises:
        NonFiniteError: the update is not finite, or the weight would not be.
    """
    # A Conv1D keeps its weight transposed.
    exact = double(layer.weight)
    changed = exact + (update.T if isinstance(layer, Conv1D) else update).to(exact.device)
    rounded = changed.to(layer.weight.dtype)
    if not bool(rounded.isfinite().all()):
        raise NonFiniteError("The update of a weight has NaN or infinite entries: lower learning_rate or clamp.")
    layer.weight.copy_(rounded)
