"""Training an adapter of peft's and adding its update to the weights: what LoRA and AdaLoRA have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied, changing
from roselora.bench.methods.training_loop import Descent, answer_rows, descend
from roselora.editing.methods.rose.factor_training import adapted_model
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.inference import Progress

QUERY_AND_VALUE = ("q_proj", "v_proj")


@dataclass(frozen=True)
class LowRankConfig(Descent):
    """What LoRA and AdaLoRA share. The defaults are EasyEdit's for LLaMA-2-7B, but for ``stop_loss``, which is ours.

    Attributes:
        rank: r of each adapted matrix; for AdaLoRA the mean that is left in the end.
        alpha: the update's scale is alpha / r.
        dropout: of the adapter's input in training.
        target_modules: names of the adapted modules; None for q_proj and v_proj, or where a model has not both, for
            every linear layer.
    """

    learning_rate: float = 5e-3
    epochs: int = 70
    rank: int = 8
    alpha: int = 32
    dropout: float = 0.1
    target_modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), not {self.dropout}.")


@dataclass(frozen=True)
class Hooks:
    """What a method adds to the training of its adapter; see `descend`."""

    after_step: Callable[[int], None] | None = None
    penalty: Callable[[], Tensor] | None = None
    first_stop: int = 0


def target_modules(model: PreTrainedModel, config: LowRankConfig) -> str | list[str]:
    """The adapted modules, as peft takes them."""
    if config.target_modules is not None:
        return list(config.target_modules)
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return list(QUERY_AND_VALUE) if names.issuperset(QUERY_AND_VALUE) else "all-linear"


def tune_adapter(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: LowRankConfig,
    adapter: LoraConfig,
    hooks: Callable[[PeftModel], Hooks] = lambda _: Hooks(),
    on_progress: Progress | None = None,
) -> Applied:
    """Train the adapter on the answers of all requests, take it out, and add its update to the weights it was on.

    The update is added in fp32 and rounded once to the weight's dtype.

    Raises:
        ConfigError: no requests, or a model that peft cannot adapt so.
        NonFiniteError: the loss diverged, or the update is not finite; the model is as it was.
    """
    rows = answer_rows(tokenizer, requests)
    with adapted_model(model, adapter, config.seed) as adapted:
        own = hooks(adapted)
        steps = descend(
            adapted.get_base_model(),
            [parameter for parameter in adapted.parameters() if parameter.requires_grad],
            rows,
            config,
            after_step=own.after_step,
            penalty=own.penalty,
            first_stop=own.first_stop,
            on_progress=on_progress,
        )
        updates = _updates(adapted)
    weights = [model.get_submodule(name).get_parameter("weight") for name in updates]
    with changing(weights) as snapshot, torch.no_grad():
        for weight, update in zip(weights, updates.values(), strict=True):
            weight.copy_(weight.float() + update.float())
    return Applied(tuple(requests), snapshot.restore, snapshot.entries(), steps)


@torch.no_grad()
def _updates(adapted: PeftModel) -> dict[str, Tensor]:
    """By the name of its module in the base model, what the adapter adds to each weight, in the weight's own shape."""
    return {
        name: module.get_delta_weight("default")
        for name, module in adapted.get_base_model().named_modules()
        if hasattr(module, "get_delta_weight")
    }
