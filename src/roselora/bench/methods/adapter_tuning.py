"""Training one of peft's adapters and adding its update to the weights: what LoRA and AdaLoRA have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from roselora.bench.methods.answer_training import BatchTrainingConfig, train_answers
from roselora.bench.methods.edit_method import Applied, EditCall
from roselora.bench.methods.weight_changes import Snapshot, undone_on_error
from roselora.editing.methods.rose.factor_training import adapted_model
from roselora.editing.methods.setting_bounds import number, whole
from roselora.editing.methods.token_batches import answer_rows
from roselora.errors import ConfigError
from roselora.models.architecture import edit_targets


@dataclass(frozen=True)
class AdapterConfig(BatchTrainingConfig):
    """Settings of LoRA and AdaLoRA. The defaults are EasyEdit's for LLaMA-2-7B; only ``stop_loss`` is ours.

    Attributes:
        rank: r of each adapted matrix; for AdaLoRA the mean that is left in the end.
        alpha: the update's scale is alpha / r.
        dropout: of the adapter's input in training.
        target_modules: names of the adapted modules; None for q_proj and v_proj, or where a model has not both, for
            every linear layer.
    """

    learning_rate: float = number(5e-3, above=0)
    epochs: int = whole(70, least=1)
    rank: int = whole(8, least=1)
    alpha: int = whole(32, least=1)
    dropout: float = 0.1
    target_modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, not {self.dropout}.")

    def targets(self, model: PreTrainedModel) -> str | list[str]:
        """The adapted modules, as peft takes them."""
        if self.target_modules is not None:
            return list(self.target_modules)
        return edit_targets(model, preferred=("q_proj", "v_proj"))


def tune_adapter(
    call: EditCall[AdapterConfig],
    adapter: LoraConfig,
    *,
    after_step: Callable[[PeftModel, int], None] | None = None,
    penalty: Callable[[PeftModel], Tensor] | None = None,
    first_stop: int = 0,
) -> Applied:
    """Train the adapter on the answers of all requests, take it out, and add its update to the weights it was on.

    The update is added in fp32 and rounded once to the weight's dtype.

    Args:
        after_step, penalty, first_stop: as in `train_answers`; the first two take the adapted model.

    Raises:
        ConfigError: peft cannot adapt the model with these settings.
        NonFiniteError: the loss diverged, or the update is not finite; the model is as it was.
    """
    rows = [answer_rows(call.tokenizer, request) for request in call.requests]
    with adapted_model(call.model, adapter, call.config.seed) as adapted:
        steps = train_answers(
            adapted.get_base_model(),
            [parameter for parameter in adapted.parameters() if parameter.requires_grad],
            rows,
            call.config,
            batch_size=call.config.batch_size,
            after_step=after_step and partial(after_step, adapted),
            penalty=penalty and partial(penalty, adapted),
            first_stop=first_stop,
            on_progress=call.on_progress,
        )
        updates = _updates(adapted)
    weights = [call.model.get_submodule(name).get_parameter("weight") for name in updates]
    with undone_on_error(Snapshot(weights)) as snapshot, torch.no_grad():
        for weight, update in zip(weights, updates.values(), strict=True):
            weight.copy_(weight.float() + update.float())
    return Applied(tuple(call.requests), snapshot.restore, snapshot.entries(), steps)


@torch.no_grad()
def _updates(adapted: PeftModel) -> dict[str, Tensor]:
    """By the name of its module in the base model, what the adapter adds to each weight, in the weight's own shape."""
    return {
        name: module.get_delta_weight("default")
        for name, module in adapted.get_base_model().named_modules()
        if hasattr(module, "get_delta_weight")
    }
