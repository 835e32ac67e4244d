"""ROME: one fact by a rank-one change of one MLP's output layer (Meng et al. 2022, arXiv 2202.05262)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied, changing
from roselora.bench.methods.locate_then_edit import (
    LocateConfig,
    add_to,
    contexts,
    covariances,
    memory,
    of_base,
    require_some,
    ridged,
    weights,
)
from roselora.bench.methods.module_states import read_rows
from roselora.bench.methods.target_value import Value, optimize_value
from roselora.editing.request import EditRequest
from roselora.models.architecture import block_at, mlp_output
from roselora.models.inference import Progress, counted


@dataclass(frozen=True)
class RomeConfig(LocateConfig):
    """Settings of ROME.

    Attributes:
        depth: of the edited layer, 0 the first and 1 the last; the paper's is layer 17 of 48.
        layer: its number instead.
    """

    depth: float = 0.36
    layer: int | None = None


def rome(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: RomeConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Insert each request's key and value into one layer, one after another, by Eq. 2.

    Raises:
        ConfigError, UnsupportedError: the model, tokenizer or text does not fit the method.
        EditError, NonFiniteError: a value diverged.
    """
    require_some(requests)
    module = edited_module(model, config)
    layer = memory(model, module)
    C = of_base(model, tokenizer, [module], config, history)[module]
    solved, steps = ridged(C.to(layer.weight.device)), 0
    with changing(weights(model, [module])) as snapshot:
        for request in counted(requests, on_progress):
            rows = contexts(tokenizer, request, config)
            value: Value = optimize_value(model, tokenizer, request, rows, module, config)
            k = read_rows(model, rows, inputs_of=[module])[module].mean(0)
            add_to(layer, rank_one_update(k, value.delta, solved))
            steps += value.steps
        entries = snapshot.entries()
    return Applied(tuple(requests), snapshot.restore, entries, steps, {f"covariance/{module}": C})


def edited_module(model: PreTrainedModel, config: RomeConfig) -> str:
    """The name of the layer that is changed."""
    return mlp_output(model, block_at(model, config.depth) if config.layer is None else config.layer)


def rank_one_update(k: Tensor, residual: Tensor, C: Tensor) -> Tensor:
    """Λ (C⁻¹ k)ᵀ with Λ = (v - W k) / (C⁻¹ k)ᵀ k: the smallest change, weighted by C, after which W k = v (Eq. 2).

    Args:
        k: (d_in,) the key.
        residual: (d_out,) v - W k.
        C: (d_in, d_in) symmetric positive definite, fp64.

    Returns:
        (d_out, d_in) fp64.
    """
    u = torch.linalg.solve(C, k)
    return torch.outer(residual / (u @ k), u)


def read_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: RomeConfig, on_progress: Progress
) -> None:
    """Read the text before the first edit, which then finds the covariance in the cache."""
    covariances(model, tokenizer, [edited_module(model, config)], config, on_progress)
