"""MEMIT: many facts at once by least squares over several layers (Meng et al. 2023, arXiv 2210.07229)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied, changing
from roselora.bench.methods.locate_then_edit import check_positive, covariances, of_base, ridged, weights
from roselora.bench.methods.multi_layer_edit import SpreadConfig, edited_modules, spread_edits
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress


@dataclass(frozen=True)
class MemitConfig(SpreadConfig):
    """Settings of MEMIT.

    Attributes:
        weight: λ, how many of a text's keys one edit stands against; None takes as many as a key has dimensions,
            near the paper's 15,000 for the 16,384 of GPT-J, which is far too much for narrow models.
    """

    weight: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight is not None:
            check_positive("weight", self.weight)


def memit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: MemitConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Make all requests at once, each layer by Eq. 14.

    Raises:
        ConfigError, UnsupportedError: the model, tokenizer or text does not fit the method.
        EditError, NonFiniteError: a value diverged.
    """
    modules = edited_modules(model, config)
    C = of_base(model, tokenizer, modules, config, history)

    def solve(module: str, K: Tensor, R: Tensor) -> Tensor:
        weight = len(K) if config.weight is None else config.weight
        return least_squares_update(K, R, weight * ridged(C[module].to(K.device)))

    with changing(weights(model, modules)) as snapshot:
        spread = spread_edits(model, tokenizer, requests, config, solve, on_progress)
        entries = snapshot.entries()
    kept = {f"covariance/{module}": C[module] for module in modules}
    return Applied(tuple(requests), snapshot.restore, entries, spread.steps, kept)


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


def read_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: MemitConfig, on_progress: Progress
) -> None:
    """Read the text before the first edit, which then finds the covariances in the cache."""
    covariances(model, tokenizer, edited_modules(model, config), config, on_progress)
