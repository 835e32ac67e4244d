"""MEMIT: many facts at once by least squares over several layers (Meng et al. 2023, arXiv 2210.07229)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.methods.locate_then_edit import as_memory, covariances, remembered, ridged
from roselora.bench.methods.multi_layer_edit import MultiLayerConfig, edit_layers
from roselora.editing.methods.setting_bounds import number


@dataclass(frozen=True)
class MemitConfig(MultiLayerConfig):
    """Settings of MEMIT.

    Attributes:
        weight: λ, the number of a text's keys that weigh as much as one edit; None takes the dimension of a key,
            near the paper's 15,000 for the 16,384 of GPT-J, which is far too much for narrow models.
    """

    weight: float | None = number(None, above=0)


def memit(call: EditCall[MemitConfig]) -> Applied:
    """Make all requests at once, each layer by Eq. 14; see `edit_layers`."""
    C = remembered(call, "covariance") or covariances(call.model, call.tokenizer, call.config)  # of the base model

    def solve(module: str, K: Tensor, R: Tensor) -> Tensor:
        weight = len(K) if call.config.weight is None else call.config.weight
        return least_squares_update(K, R, weight * ridged(C[module].to(K.device)))

    applied, _ = edit_layers(call, solve)
    return replace(applied, memory=as_memory("covariance", C))


def least_squares_update(K: Tensor, R: Tensor, C0: Tensor) -> Tensor:
    """Δ = R Kᵀ (C₀ + K Kᵀ)⁻¹ (Eq. 14): it minimizes |Δ K - R|² + tr(Δ C₀ Δᵀ).

    Args:
        K: (d_in, n) the keys of the edits.
        R: (d_out, n) what their values lack.
        C0: (d_in, d_in) = λ E[k kᵀ], symmetric positive definite, fp64.

    Returns:
        (d_out, d_in) fp64.
    """
    update: Tensor = R @ torch.linalg.solve(C0 + K @ K.T, K).T
    return update


METHOD = Method(
    "memit", memit, MemitConfig(), "Meng et al., 2022, arXiv 2210.07229", requests_per_call=100, read_text=covariances
)
