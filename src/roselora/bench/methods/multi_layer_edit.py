"""Many edits at once over several layers: what MEMIT and AlphaEdit share (arXiv 2210.07229, Algorithm 1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from roselora.bench.methods.edit_method import Applied, EditCall
from roselora.bench.methods.locate_then_edit import LocateConfig, add_to, contexts, edited_weights
from roselora.bench.methods.module_states import Context, read_states
from roselora.bench.methods.target_value import optimize_value
from roselora.bench.methods.weight_changes import Snapshot, undone_on_error
from roselora.editing.methods.setting_bounds import number, whole
from roselora.errors import ConfigError
from roselora.models.architecture import block_at, block_names, mlp_output
from roselora.models.inference import counted

Solve = Callable[[str, Tensor, Tensor], Tensor]
"""The closed form of one layer: from its name, K (d_in, n) and R (d_out, n) in fp64 to the update (d_out, d_in), after
which W K is nearer to its present value plus R."""


@dataclass(frozen=True)
class MultiLayerConfig(LocateConfig):
    """Settings of the methods that change several layers.

    Attributes:
        depth: relative depth of the highest edited layer, 0 the first and 1 the last; the papers' is layer 8 of 28
            or of 32.
        span: how many adjacent layers are edited, up to the highest; the papers have 5 or 6.
        layers: their indices in rising order, which override ``depth`` and ``span``.
    """

    depth: float = number(0.3, least=0, most=1)
    span: int = whole(5, least=1)
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers is not None and (not self.layers or list(self.layers) != sorted(set(self.layers))):
            raise ConfigError(f"layers must be indices in rising order, not {self.layers}.")

    def edited_layers(self, model: PreTrainedModel) -> tuple[int, ...]:
        """The indices of the edited blocks, in rising order."""
        if self.layers is not None:
            return self.layers
        last = block_at(model, self.depth)
        return tuple(range(max(0, last - self.span + 1), last + 1))

    def edited_modules(self, model: PreTrainedModel) -> list[str]:
        """The names of the MLP output layers that are edited, from the lowest to the highest."""
        return [mlp_output(model, layer) for layer in self.edited_layers(model)]


def edit_layers(call: EditCall[MultiLayerConfig], solve: Solve) -> tuple[Applied, dict[str, Tensor]]:
    """Find each request's hidden state z after the highest layer, then let every layer do its share of the rest.

    With layers l to L, layer l takes 1 / (L - l + 1) of what is still missing to z when its turn comes (Eq. 20),
    measured anew after the layers below have changed. Keys and hidden states are means over a request's contexts.

    Returns:
        The edit without a memory, and each layer's keys, (n, d_in) fp64, by module.

    Raises:
        ConfigError, UnsupportedError: the model or a request does not fit the method.
        EditError, NonFiniteError: a value diverged; the model is as it was.
    """
    model, tokenizer, requests, config = call.model, call.tokenizer, call.requests, call.config
    weights, last = edited_weights(model, config), block_names(model)[config.edited_layers(model)[-1]]
    rows = [contexts(tokenizer, request, config) for request in requests]
    values = [
        optimize_value(model, tokenizer, request, each, last, config)
        for request, each in counted(list(zip(requests, rows, strict=True)), call.on_progress)
    ]
    wanted = _means(model, rows, outputs_of=[last])[last] + torch.stack([value.delta for value in values])
    keys = {}
    with undone_on_error(Snapshot(weights.values())) as snapshot:
        for index, (module, weight) in enumerate(weights.items()):
            now = _means(model, rows, inputs_of=[module], outputs_of=[last])
            keys[module] = now[module]
            share = (wanted - now[last]) / (len(weights) - index)
            add_to(weight, solve(module, now[module].T, share.T.to(now[module].device)))
    steps = sum(value.steps for value in values)
    return Applied(tuple(requests), snapshot.restore, snapshot.entries(), steps), keys


def _means(
    model: PreTrainedModel,
    rows: Sequence[Sequence[Context]],
    *,
    inputs_of: Sequence[str] = (),
    outputs_of: Sequence[str],
) -> dict[str, Tensor]:
    """`read_states` at each request's contexts, averaged over them: by module, (requests, width) fp64."""
    read = read_states(model, [row for each in rows for row in each], inputs_of, outputs_of)
    sizes = [len(each) for each in rows]
    return {name: torch.stack([part.mean(0) for part in torch.split(states, sizes)]) for name, states in read.items()}
