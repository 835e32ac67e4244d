"""AlphaEdit: MEMIT's change, projected onto the null space of ordinary text's keys (Fang et al. 2025, 2410.02355)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.covariance import MATRIX
from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.methods.locate_then_edit import as_memory, covariances, remembered
from roselora.bench.methods.multi_layer_edit import MultiLayerConfig, edit_layers
from roselora.editing.methods.setting_bounds import number
from roselora.files import sha256_tensor
from roselora.models.inference import Progress
from roselora.models.tensor_cache import cache_file, load_cached, save_cached


@dataclass(frozen=True)
class AlphaEditConfig(MultiLayerConfig):
    """Settings of AlphaEdit.

    Attributes:
        threshold: eigenvalues of C below it count as zero, so their directions are free to change; 0.02 is the
            published code's, and leaves some 60% of the directions of a model with 135 million weights free.
        ridge: weight of the change's own size; 10 is the published code's, where the paper's formula has 1.
    """

    threshold: float = number(0.02, above=0)
    ridge: float = number(10.0, above=0)


def alphaedit(call: EditCall[AlphaEditConfig]) -> Applied:
    """Make all requests at once, each layer by `projected_update`, which preserves the values of earlier calls' keys.

    The memory of each call holds all keys up to then, and the projections of the model as it was before all edits.
    See `edit_layers`.
    """
    P = remembered(call, "projection") or projections(call.model, call.tokenizer, call.config)
    previous = remembered(call, "keys")

    def solve(module: str, K: Tensor, R: Tensor) -> Tensor:
        Kp = previous[module].to(K.device).T if previous else K[:, :0]
        return projected_update(K, R, Kp, P[module].to(K.device), call.config.ridge)

    applied, keys = edit_layers(call, solve)
    if previous:
        keys = {module: torch.cat([previous[module].to(own.device), own]) for module, own in keys.items()}
    return replace(applied, memory=as_memory("projection", P) | as_memory("keys", keys))


def projections(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: AlphaEditConfig,
    on_progress: Progress | None = None,
) -> dict[str, Tensor]:
    """The null-space projection of each edited module, (d_in, d_in) fp32; the identity where there is no text."""
    C = covariances(model, tokenizer, config, on_progress)
    return C if config.text is None else {module: _cached_projection(matrix, config) for module, matrix in C.items()}


def _cached_projection(C: Tensor, config: AlphaEditConfig) -> Tensor:
    """`null_projection` in fp32, from the cache if it is there."""
    if config.cache is None:
        return null_projection(C, config.threshold).float()
    file = cache_file(config.cache, "projection", {"of": sha256_tensor(C), "threshold": config.threshold}, C.device)
    cached = load_cached(file, {MATRIX: tuple(C.shape)})
    if cached is None:
        cached = {MATRIX: null_projection(C, config.threshold).float()}
        save_cached(file, cached)
    return cached[MATRIX]


def null_projection(C: Tensor, threshold: float) -> Tensor:
    """P = U Uᵀ of the eigenvectors of C whose eigenvalues are below the threshold: (d, d) fp64, on C's device.

    >>> null_projection(torch.diag(torch.tensor([1.0, 0.01])), threshold=0.02).diagonal().tolist()
    [0.0, 1.0]
    """
    values, vectors = torch.linalg.eigh(C.double())
    U = vectors[:, values < threshold]
    projection: Tensor = U @ U.T
    return projection


def projected_update(K: Tensor, R: Tensor, Kp: Tensor, P: Tensor, ridge: float) -> Tensor:
    """Δ P = R Kᵀ P (Kₚ Kₚᵀ P + K Kᵀ P + ridge · I)⁻¹ (Eq. 14 of the paper, whose ridge is 1).

    Since P is a projection this is R Eᵀ (Gᵀ G + ridge · I)⁻¹ Gᵀ with G = P [Kₚ K], where E picks the columns of K:
    a system as small as the number of edits, symmetric and positive definite.

    Args:
        K: (d_in, n) the keys of these edits.
        R: (d_out, n) what their values lack.
        Kp: (d_in, m) the keys of previous edits, whose values stay.
        P: (d_in, d_in) projection on what may change, fp64.
        ridge: above 0.

    Returns:
        (d_out, d_in) fp64.
    """
    G = P.double() @ torch.cat([Kp, K], 1)
    gram = G.T @ G + ridge * torch.eye(G.shape[1], dtype=G.dtype, device=G.device)
    update: Tensor = R @ torch.linalg.solve(gram, G.T)[Kp.shape[1] :]
    return update


METHOD = Method(
    "alphaedit",
    alphaedit,
    AlphaEditConfig(),
    "Fang et al., 2024, arXiv 2410.02355",
    requests_per_call=100,
    read_text=projections,
)
