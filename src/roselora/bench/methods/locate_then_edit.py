"""What the locate-then-edit methods share: their settings, a request's contexts, and an MLP's weight as a memory.

They read an MLP's output layer as an associative memory, W k = v: the key is the layer's input at the last token of
a subject, the value is its output there (Meng et al. 2022, arXiv 2202.05262, section 3).
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.covariance import covariance
from roselora.bench.methods.edit_method import EditCall
from roselora.bench.methods.module_states import Context
from roselora.bench.methods.subject_position import subject_end
from roselora.editing.forms import asked_texts
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.editing.methods.setting_bounds import BoundedSettings, number, whole
from roselora.editing.methods.token_batches import prompt_and_answer
from roselora.editing.request import BARE, EditRequest
from roselora.errors import ConfigError, NonFiniteError, UnsupportedError
from roselora.float64 import double
from roselora.models.inference import Progress
from roselora.models.mlp_neurons import weight_matrix
from roselora.models.tensor_cache import cache_folder

RIDGE = 1e-6
"""A share of C's mean diagonal that is added to it, since a neuron that never fires makes it singular."""


@dataclass(frozen=True)
class LocateConfig(BoundedSettings):
    """Settings of every locate-then-edit method.

    steps, learning_rate, stop_loss and kl_weight are those that the methods' authors publish, and so is ROME's clamp,
    which MEMIT has here too; tokens, prefixes and weight_decay are ours, chosen for models that are edited on a
    CPU.

    Attributes:
        text: a file whose keys the edit disturbs little, or None for no such text: C is then the identity.
        tokens: how many of its first tokens are read.
        cache: the folder in which what is computed from the text is cached, or None for no cache.
        prefixes: texts put before the prompt, one at a time, so that the edit holds in other contexts too; they are
            chosen from the project's own neutral texts (the papers let the model write them), beside no prefix.
        steps: optimizer steps towards a value, at most.
        learning_rate: of Adam on the value.
        stop_loss: the mean loss of the answer's tokens, in nats, under which a value is good enough.
        kl_weight: weight of the KL divergence of what follows "<subject> is a".
        weight_decay: weight of the squared ratio of the change to what it is added to.
        clamp: the upper bound of that ratio.
        seed: of the choice of prefixes.
    """

    text: Path | None = None
    tokens: int = whole(100_000, least=1)
    cache: Path | None = field(default_factory=lambda: cache_folder("covariance"))
    prefixes: int = 3
    steps: int = whole(25, least=1)
    learning_rate: float = number(0.5, above=0)
    stop_loss: float = number(0.05, least=0)
    kl_weight: float = number(0.0625, least=0)
    weight_decay: float = number(1e-3, least=0)
    clamp: float = number(4.0, above=0)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.prefixes <= len(NEUTRAL_TEXTS):
            raise ConfigError(f"prefixes must be at least 0 and at most {len(NEUTRAL_TEXTS)}, not {self.prefixes}.")

    def edited_modules(self, model: PreTrainedModel) -> list[str]:
        """The names of the MLP output layers that are edited, from the lowest to the highest."""
        raise NotImplementedError


def contexts(tokenizer: PreTrainedTokenizerBase, request: EditRequest, config: LocateConfig) -> list[Context]:
    """The prompt alone, after each prefix, and in its other forms, read at the subject's last token, with the target.

    A subject that is only the very first token is passed over for the prompt's last token: at the first position
    models have a huge key that all texts share, and an edit of it would change them all.
    """
    prompt, subject = request.prompt, request.subject
    if subject_end(tokenizer, prompt, subject) == 0:
        subject = None
    prefixes = random.Random(config.seed).sample(NEUTRAL_TEXTS, config.prefixes)
    rows = []
    for asked in asked_texts(tokenizer, prompt, request.form, request.space):
        before = asked.text.index(prompt.strip())  # how a chat opens the user's turn
        for prefix in ("", *(f"{prefix} " for prefix in prefixes if asked.form == BARE)):
            text = prefix + asked.text
            ids, answer = prompt_and_answer(tokenizer, text, request.target, asked.space)
            end = subject_end(tokenizer, text, subject, len(prefix) + before)
            rows.append(Context(ids, end, tuple(answer)))
    return rows


def covariances(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: LocateConfig,
    on_progress: Progress | None = None,
) -> dict[str, Tensor]:
    """C of each edited module by `covariance`, or the identity where the config names no text: (d, d) fp32.

    Where the config has a cache, a first call before a run leaves nothing but reading a file to the edits.
    """
    weights = edited_weights(model, config)
    if config.text is None:
        return {name: torch.eye(weight.shape[1]) for name, weight in weights.items()}
    return covariance(
        model, tokenizer, list(weights), config.text, tokens=config.tokens, cache=config.cache, on_progress=on_progress
    )


def remembered(call: EditCall[LocateConfig], name: str) -> dict[str, Tensor]:
    """What the previous call left under a name for each edited module; empty if this is the first call."""
    if not call.history:
        return {}
    memory = call.history[-1].memory
    return {module: memory[f"{name}/{module}"] for module in call.config.edited_modules(call.model)}


def as_memory(name: str, by_module: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a call leaves under a name for the next one, which finds it by `remembered`."""
    return {f"{name}/{module}": tensor for module, tensor in by_module.items()}


def ridged(C: Tensor) -> Tensor:
    """C in fp64 with RIDGE of its mean diagonal added: (d, d), positive definite."""
    C = double(C)
    return C + RIDGE * C.diagonal().mean() * torch.eye(len(C), dtype=C.dtype, device=C.device)


def edited_weights(model: PreTrainedModel, config: LocateConfig) -> dict[str, Tensor]:
    """Views of the edited layers' weights as (d_out, d_in), by the layers' names, from the lowest to the highest.

    Raises:
        UnsupportedError: a weight is quantized.
    """
    weights = {name: weight_matrix(model.get_submodule(name)) for name in config.edited_modules(model)}
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise UnsupportedError(f"{name} is quantized ({weight.dtype}): load the model in bf16 or fp32.")
    return weights


def add_to(weight: Tensor, update: Tensor) -> None:
    """Set a weight (d_out, d_in) to its sum with the update, added in fp64 and rounded once to the weight's dtype.

    Raises:
        NonFiniteError: the update is not finite, or the weight would not be.
    """
    exact = double(weight)
    rounded = (exact + update.to(exact.device)).to(weight.dtype)
    if not bool(rounded.isfinite().all()):
        raise NonFiniteError("The update of a weight has NaN or infinite entries: lower learning_rate or clamp.")
    weight.copy_(rounded)
