"""How many entries of the base weights a trained update changes, counted in the same way for every method."""

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from roselora.models.loading import load
from roselora.models.task_heads import head_for
from roselora.training.prepare import Prepared
from roselora.training.train_settings import TrainSettings


def entries_changed(prepared: Prepared, settings: TrainSettings) -> int | None:
    """The number of entries whose value, in the weight's own dtype, changes when the update is merged.

    A classifier's new head is not counted, since it has no earlier value. Prefix and loreft change no weight: 0. None
    if weights are quantized, since updates cannot be merged into them entry by entry.
    """
    model: Any = prepared.model
    if settings.method == "full":
        return _moved(model, prepared, settings)
    if not isinstance(model, PeftModel):
        return 0
    layers: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    weights = [layer.get_base_layer().weight for layer in layers]
    if not all(weight.is_floating_point() for weight in weights):
        return None
    return sum(_merged(layer, weight) for layer, weight in zip(layers, weights, strict=True))


@torch.no_grad()
def _merged(layer: Any, weight: nn.Parameter) -> int:
    """The entries that merging one layer changes. PEFT's unmerge rounds, so the weight is restored from a copy."""
    before = weight.detach().clone()
    layer.merge()
    changed = int((layer.get_base_layer().weight != before).sum())
    layer.unmerge()
    layer.get_base_layer().weight.copy_(before)
    return changed


@torch.no_grad()
def _moved(model: Any, prepared: Prepared, settings: TrainSettings) -> int:
    """The entries that full fine-tuning has changed in the model's body."""
    base = load(settings.model, dtype=model.dtype, head=head_for(prepared.examples.labels)).model
    trained = dict(model.base_model.named_parameters())
    return sum(
        int((trained[name].cpu() != before).sum())
        for name, before in base.base_model.named_parameters()
        if ".pooler." not in f".{name}"  # a pooler may be new, like the head
    )
