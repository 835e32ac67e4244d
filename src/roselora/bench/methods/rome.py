"""ROME: one fact by a rank-one change of one MLP's output layer (Meng et al. 2022, arXiv 2202.05262)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.methods.edited_layer import BlockConfig
from roselora.bench.methods.locate_then_edit import (
    LocateConfig,
    add_to,
    as_memory,
    contexts,
    covariances,
    edited_weights,
    remembered,
    ridged,
)
from roselora.bench.methods.module_states import read_states
from roselora.bench.methods.target_value import optimize_value
from roselora.bench.methods.weight_changes import Snapshot, undone_on_error
from roselora.editing.methods.setting_bounds import number
from roselora.models.architecture import mlp_output
from roselora.models.inference import counted


@dataclass(frozen=True)
class RomeConfig(LocateConfig, BlockConfig):
    """Settings of ROME; see `LocateConfig` and `BlockConfig`. The depth is the paper's, layer 17 of 48."""

    depth: float = number(0.36, least=0, most=1)

    def edited_modules(self, model: PreTrainedModel) -> list[str]:
        """The name of the one MLP output layer that is edited."""
        return [mlp_output(model, self.block(model))]


def rome(call: EditCall[RomeConfig]) -> Applied:
    """Insert each request's key and value into one layer, one after another, by Eq. 2.

    Raises:
        ConfigError, UnsupportedError: the model, tokenizer or text does not fit the method.
        EditError, NonFiniteError: a value diverged.
    """
    model, config = call.model, call.config
    ((module, weight),) = edited_weights(model, config).items()
    C = remembered(call, "covariance") or covariances(model, call.tokenizer, config)  # of the base model
    regularized, steps = ridged(C[module].to(weight.device)), 0
    with undone_on_error(Snapshot([weight])) as snapshot:
        for request in counted(call.requests, call.on_progress):
            rows = contexts(call.tokenizer, request, config)
            value = optimize_value(model, call.tokenizer, request, rows, module, config)
            k = read_states(model, rows, inputs_of=[module])[module].mean(0)
            add_to(weight, rank_one_update(k, value.delta, regularized))
            steps += value.steps
    return Applied(tuple(call.requests), snapshot.restore, snapshot.entries(), steps, as_memory("covariance", C))


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


METHOD = Method("rome", rome, RomeConfig(), "Meng et al., 2022, arXiv 2202.05262", read_text=covariances)
