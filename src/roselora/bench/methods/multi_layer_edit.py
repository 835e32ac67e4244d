"""Spread many edits over several layers: what MEMIT and AlphaEdit share (arXiv 2210.07229, Algorithm 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.locate_then_edit import LocateConfig, add_to, contexts, memory, require_some
from roselora.bench.methods.module_states import Row, read_rows
from roselora.bench.methods.target_value import optimize_value
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.architecture import block_at, blocks, mlp_output
from roselora.models.inference import Progress, counted


@dataclass(frozen=True)
class SpreadConfig(LocateConfig):
    """Settings of the methods that change several layers.

    Attributes:
        depth: of the last edited layer, 0 the first and 1 the last; the papers' is layer 8 of 28 or of 32.
        span: how many layers in a row are edited, the last among them; the papers have 5 or 6.
        layers: their numbers instead, rising.
    """

    depth: float = 0.3
    span: int = 5
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.span < 1:
            raise ConfigError(f"span must be at least 1, not {self.span}.")
        if self.layers is not None and (not self.layers or list(self.layers) != sorted(set(self.layers))):
            raise ConfigError(f"layers must be numbers that rise, not {self.layers}.")


class Solve(Protocol):
    """The closed form of one layer: K (d_in, n) and R (d_out, n) in fp64 give the update (d_out, d_in)."""

    def __call__(self, module: str, K: Tensor, R: Tensor) -> Tensor:
        """The change of W after which W K is nearer to its present value plus R."""
        ...


@dataclass(frozen=True)
class Spread:
    """What spreading the edits took: optimizer steps, and each layer's keys, (n, d_in) fp64, by module."""

    steps: int
    keys: dict[str, Tensor]


def edited_layers(model: PreTrainedModel, config: SpreadConfig) -> tuple[int, ...]:
    """The numbers of the layers that are changed, rising."""
    if config.layers is not None:
        return config.layers
    last = block_at(model, config.depth)
    return tuple(range(max(0, last - config.span + 1), last + 1))


def edited_modules(model: PreTrainedModel, config: SpreadConfig) -> list[str]:
    """The names of the layers that are changed, in order."""
    return [mlp_output(model, layer) for layer in edited_layers(model, config)]


def spread_edits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: SpreadConfig,
    solve: Solve,
    on_progress: Progress | None = None,
) -> Spread:
    """Find each request's hidden state z after the last layer, then let every layer do its share of the rest.

    With layers l to L, layer l takes 1 / (L - l + 1) of what is still missing to z when its turn comes (Eq. 20),
    measured anew after the layers below have changed. Keys and hidden states are means over a request's contexts.
    Changes the weights; the caller puts them back on an error.
    """
    require_some(requests)
    modules, last = edited_modules(model, config), blocks(model)[edited_layers(model, config)[-1]]
    rows = [contexts(tokenizer, request, config) for request in requests]
    values = [
        optimize_value(model, tokenizer, request, each, last, config)
        for request, each in counted(list(zip(requests, rows, strict=True)), on_progress)
    ]
    wanted = _means(model, rows, outputs_of=[last])[last] + torch.stack([value.delta for value in values])
    keys = {}
    for index, module in enumerate(modules):
        layer = memory(model, module)
        now = _means(model, rows, inputs_of=[module], outputs_of=[last])
        keys[module] = now[module]
        share = (wanted - now[last]) / (len(modules) - index)
        add_to(layer, solve(module, now[module].T, share.T.to(now[module].device)))
    return Spread(sum(value.steps for value in values), keys)


def _means(
    model: PreTrainedModel, rows: Sequence[Sequence[Row]], inputs_of: Sequence[str] = (), outputs_of: Sequence[str] = ()
) -> dict[str, Tensor]:
    """What is read at each request's rows, averaged over them: by module, (requests, width) fp64."""
    read = read_rows(model, [row for each in rows for row in each], inputs_of, outputs_of)
    sizes = [len(each) for each in rows]
    return {name: torch.stack([part.mean(0) for part in torch.split(states, sizes)]) for name, states in read.items()}
