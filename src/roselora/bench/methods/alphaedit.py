"""AlphaEdit: MEMIT's change, kept out of the space of ordinary text's keys (Fang et al. 2025, arXiv 2410.02355)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied, changing
from roselora.bench.methods.covariance import MATRIX
from roselora.bench.methods.locate_then_edit import check_positive, covariances, weights
from roselora.bench.methods.multi_layer_edit import SpreadConfig, edited_modules, spread_edits
from roselora.editing.request import EditRequest
from roselora.files import sha256_tensor
from roselora.models.inference import Progress
from roselora.models.tensor_cache import cache_file, keep, load_kept


@dataclass(frozen=True)
class AlphaEditConfig(SpreadConfig):
    """Settings of AlphaEdit.

    Attributes:
        threshold: eigenvalues of C below it count as zero, so their directions are free to change; 0.02 is the
            published code's, and leaves some 60% of the directions of a model with 135 million weights free.
        ridge: weight of the change's own size; 10 is the published code's, where the paper's formula has 1.
    """

    threshold: float = 0.02
    ridge: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("threshold", "ridge"):
            check_positive(name, getattr(self, name))


def alphaedit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: AlphaEditConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Make all requests at once, each layer by :func:`projected_update`, holding the earlier calls' keys still.

    The memory of each call holds all keys up to then, and the projections of the model as it was before all edits.

    Raises:
        ConfigError, UnsupportedError: the model, tokenizer or text does not fit the method.
        EditError, NonFiniteError: a value diverged.
    """
    modules = edited_modules(model, config)
    P = _projections(model, tokenizer, modules, config, history)
    known = {module: history[-1].memory[f"keys/{module}"] for module in modules} if history else {}

    def solve(module: str, K: Tensor, R: Tensor) -> Tensor:
        earlier = known[module].to(K.device).T if module in known else K[:, :0]
        return projected_update(K, R, earlier, P[module].to(K.device), config.ridge)

    with changing(weights(model, modules)) as snapshot:
        spread = spread_edits(model, tokenizer, requests, config, solve, on_progress)
        entries = snapshot.entries()
    kept = {f"projection/{module}": P[module] for module in modules}
    for module, keys in spread.keys.items():
        before = [known[module].to(keys.device)] if module in known else []
        kept[f"keys/{module}"] = torch.cat([*before, keys])
    return Applied(tuple(requests), snapshot.restore, entries, spread.steps, kept)


def read_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: AlphaEditConfig, on_progress: Progress
) -> None:
    """Read the text and find the projections before the first edit, which then finds them in the cache."""
    modules = edited_modules(model, config)
    covariances(model, tokenizer, modules, config, on_progress)
    _projections(model, tokenizer, modules, config, ())


def _projections(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    modules: Sequence[str],
    config: AlphaEditConfig,
    history: Sequence[Applied],
) -> dict[str, Tensor]:
    if history:
        return {module: history[-1].memory[f"projection/{module}"] for module in modules}
    C = covariances(model, tokenizer, modules, config)
    if config.text is None:
        return C  # the identity: nothing is to be preserved
    return {module: _kept_projection(C[module], config) for module in modules}


def _kept_projection(C: Tensor, config: AlphaEditConfig) -> Tensor:
    """:func:`null_projection` in fp32, from the cache if it is there."""
    if config.cache is None:
        return null_projection(C, config.threshold).float()
    place = cache_file(config.cache, "projection", {"of": sha256_tensor(C), "threshold": config.threshold}, C.device)
    kept = load_kept(place, {MATRIX: tuple(C.shape)})
    if kept is None:
        kept = {MATRIX: null_projection(C, config.threshold).float()}
        keep(place, kept)
    return kept[MATRIX]


def null_projection(C: Tensor, threshold: float) -> Tensor:
    """P = U Uᵀ of the eigenvectors of C whose eigenvalues are below the threshold: (d, d) fp64, on C's device."""
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
        Kp: (d_in, m) the keys of earlier edits, whose values stay.
        P: (d_in, d_in) projection on what may change, fp64.
        ridge: above 0.

    Returns:
        (d_out, d_in) fp64.
    """
    G = P.double() @ torch.cat([Kp, K], 1)
    gram = G.T @ G + ridge * torch.eye(G.shape[1], dtype=G.dtype, device=G.device)
    update: Tensor = R @ torch.linalg.solve(gram, G.T)[Kp.shape[1] :]
    return update
