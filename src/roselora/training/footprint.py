"""How many entries of the base's weights a trained update makes different, counted the same way for every method."""

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
    """Entries whose value, in the weight's own dtype, is another one once the update is merged; each matrix in turn.

    A classifier's new head does not count: it has no earlier value. A method that changes no weight, as prefix and
    loreft do, has 0. None where weights are quantized, so that nothing can be merged entry by entry.
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
    """What merging one layer changes; the weight is as it was afterwards, to the bit."""
    before = weight.detach().clone()
    layer.merge()
    changed = int((layer.get_base_layer().weight != before).sum())
    layer.unmerge()
    layer.get_base_layer().weight.copy_(before)
    return changed


@torch.no_grad()
def _moved(model: Any, prepared: Prepared, settings: TrainSettings) -> int:
    """What training every weight has changed in the model's body."""
    base = load(settings.model, dtype=model.dtype, head=head_for(prepared.examples.labels)).model
    trained = dict(model.base_model.named_parameters())
    return sum(
        int((trained[name].cpu() != before).sum())
        for name, before in base.base_model.named_parameters()
        if ".pooler." not in f".{name}"  # which may be new too
    )
