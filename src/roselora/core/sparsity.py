"""How sparse the product B·A is: counted without forming it, and bounded from the factors alone."""

import torch
from torch import Tensor

from roselora.errors import ConfigError, NonFiniteError
from roselora.float64 import double

_CHUNK_ELEMENTS = 2**22
"""How many entries of the product are computed at a time: 32 MB in fp64."""


def zero_fraction(tensor: Tensor, dim: int) -> Tensor:
    """Return s(x), the fraction of exact zeros along `dim`, as fp64 with that dimension removed.

    >>> zero_fraction(torch.tensor([[0.0, 2.0, 0.0, 0.0]]), dim=-1)
    tensor([0.7500], dtype=torch.float64)
    """
    return 1 - double(tensor.count_nonzero(dim)) / tensor.shape[dim]


def product_sparsity_bound(a: Tensor, b: Tensor) -> Tensor:
    """Return Proposition 1's lower bound on the fraction of zeros of B·A.

    The paper writes max{0, 1 + Σᵢ (s(Aᵢ*) + s(B*ᵢ) - s(Aᵢ*)·s(B*ᵢ)) - r}, which equals
    max{0, 1 - Σᵢ (1 - s(Aᵢ*))·(1 - s(B*ᵢ))}. The second form is computed here, from integer counts, so that rounding
    cannot lift it above `product_sparsity`.

    Args:
        a: A, (..., r, d_in), any dtype.
        b: B, (..., d_out, r), with the same batch dimensions.

    Returns:
        An fp64 tensor of the batch shape.

    Raises:
        ConfigError: the shapes do not fit.

    Example:
        >>> a, b = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[5.0], [0.0]])
        >>> product_sparsity_bound(a, b).item()  # at most 1 · 1 of the 8 entries of b @ a is not zero
        0.875
    """
    _require_factors(a, b)
    filled = (a.count_nonzero(-1) * b.count_nonzero(-2)).sum(-1)
    return (1 - double(filled) / (b.shape[-2] * a.shape[-1])).clamp_(min=0)


def count_product_nonzeros(a: Tensor, b: Tensor) -> Tensor:
    """Count the non-zero entries of B·A, as computed in fp64, without holding the product.

    Only the non-zero rows of B and columns of A are multiplied, about four million entries at a time.

    Args:
        a: A, (..., r, d_in), any float dtype.
        b: B, (..., d_out, r), with the same batch dimensions.

    Returns:
        An int64 tensor of the batch shape.

    Raises:
        ConfigError: the shapes do not fit.
        NonFiniteError: a factor holds NaN or infinity, whose product with 0 is not 0.

    Example:
        >>> a, b = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[5.0], [0.0]])
        >>> count_product_nonzeros(a, b).item()
        2
    """
    _require_factors(a, b)
    if not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
        raise NonFiniteError("A factor holds NaN or infinity, so the zeros of its product cannot be counted.")
    batch = a.shape[:-2]
    pairs = zip(a.detach().reshape(-1, *a.shape[-2:]), b.detach().reshape(-1, *b.shape[-2:]), strict=True)
    counts = [_count_one(one_a, one_b) for one_a, one_b in pairs]
    return torch.stack(counts).reshape(batch) if counts else torch.zeros(batch, dtype=torch.int64, device=a.device)


def product_sparsity(a: Tensor, b: Tensor) -> Tensor:
    """Return the fraction of zeros of B·A, fp64 of the batch shape; arguments and errors as `count_product_nonzeros`.

    >>> product_sparsity(torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[5.0], [0.0]])).item()
    0.6666666666666667
    """
    return 1 - double(count_product_nonzeros(a, b)) / (b.shape[-2] * a.shape[-1])


def _count_one(a: Tensor, b: Tensor) -> Tensor:
    columns, rows = double(a[:, a.any(0)]), double(b[b.any(1)])
    count = torch.zeros((), dtype=torch.int64, device=rows.device)
    for chunk in torch.split(rows, max(1, _CHUNK_ELEMENTS // max(1, columns.shape[1]))):
        count += (chunk @ columns).count_nonzero()
    return count.to(a.device)


def _require_factors(a: Tensor, b: Tensor) -> None:
    fits = a.dim() >= 2 and b.dim() >= 2 and a.shape[:-2] == b.shape[:-2] and a.shape[-2] == b.shape[-1]
    if not fits or 0 in (a.shape[-1], b.shape[-2]):
        raise ConfigError(
            f"A must be (..., r, d_in) and B (..., d_out, r) with the same r and batch, "
            f"not {tuple(a.shape)} and {tuple(b.shape)}."
        )
