"""The kinds of layers that a delta can change, and how each stores its weight."""

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from roselora.delta.sparse_delta import Layer, SparseFactors
from roselora.errors import ConfigError, UnsupportedError
from roselora.files import sha256_tensor


def layer_kind(name: str, layer: nn.Module) -> Layer:
    """`linear`, `conv1d` (GPT-2's, stored transposed) or `embedding` (stored transposed too).

    Raises:
        UnsupportedError: the layer is none of these; the message names it.

    Example:
        >>> layer_kind("lm_head", nn.Linear(4, 2))
        'linear'
    """
    if isinstance(layer, nn.Linear):
        return "linear"
    if isinstance(layer, nn.Embedding):
        return "embedding"
    if isinstance(layer, Conv1D):
        return "conv1d"
    raise UnsupportedError(f"{name} is a {type(layer).__name__}; only Linear, Conv1D and Embedding can carry a delta.")


def require_own_weight(model: nn.Module, module: str, layer: nn.Module) -> None:
    """Refuse a layer that shares its weight with another: its adapter changes one of them, a delta would change both.

    Args:
        model: the model whose layers may share the weight.
        module: the layer's name, for the message.
        layer: the layer itself, without an adapter around it.

    Raises:
        UnsupportedError: the weight has another name in the model too, as tied embeddings have.
    """
    weight = getattr(layer, "weight", None)
    names = [name for name, other in model.named_parameters(remove_duplicate=False) if other is weight]
    if len(names) > 1:
        names = [name.replace(".base_layer.", ".") for name in names]
        raise UnsupportedError(
            f"{' and '.join(names)} are one weight: a delta would change them all, where the adapter of {module} "
            "changes one; leave it out of target_modules, or use the adapter itself."
        )


def layer_factors(
    module: str, layer: nn.Module, A: Tensor, B: Tensor, scale: float, base_sha256: str | None = None
) -> SparseFactors:
    """The update scale * B @ A of a layer's weight.

    Args:
        module: the layer's name in the model.
        layer: the layer itself, without an adapter around it.
        A: (r, d_in), with its zeros.
        B: (d_out, r), with its zeros.
        scale: alpha / r.
        base_sha256: the hash of the weight that the update is for, if that is not the layer's present weight.

    Raises:
        UnsupportedError: a delta cannot change this kind of layer.
        ConfigError: the factors do not fit the weight.
        NonFiniteError: the factors hold NaN or infinity.

    Example:
        >>> import torch
        >>> A, B = torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[1.0], [3.0]])
        >>> layer_factors("lm_head", nn.Linear(3, 2), A, B, scale=0.5).name
        'lm_head.weight'
    """
    kind = layer_kind(module, layer)
    weight = layer.get_parameter("weight")
    factors = SparseFactors.from_factors(
        f"{module}.weight",
        A.detach().cpu(),
        B.detach().cpu(),
        scale,
        base_dtype=weight.dtype,
        base_sha256=base_sha256 or sha256_tensor(weight),
        layer=kind,
    )
    if factors.stored_shape != tuple(weight.shape):
        raise ConfigError(f"{module} is {tuple(weight.shape)}, but the factors are for {factors.stored_shape}.")
    return factors
