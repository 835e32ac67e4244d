"""One update of a model as an object: for each weight it touches, a few sparse factors."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from roselora.delta.expansion import Floats, Ints, expand_bands
from roselora.errors import ConfigError, NonFiniteError

Layer = Literal["linear", "conv1d", "embedding"]
FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, eq=False)
class SparseFactors:
    """The update scale * B @ A of one weight, where rows of A and columns of B keep few entries.

    Arguments:
        name: the weight's name in the base model, such as "model.layers.0.self_attn.q_proj.weight".
        a_values: (r, k_A), float32, bfloat16 or float16: the kept entries of each row of A.
        a_columns: (r, k_A), int64: their columns, strictly ascending in each row, within [0, d_in).
        b_values: (r, k_B), of the dtype of `a_values`: the kept entries of each column of B, as rows.
        b_rows: (r, k_B), int64: their rows in B, strictly ascending in each row, within [0, d_out).
        scale: alpha / r, or alpha / sqrt(r) for rsLoRA.
        shape: (d_out, d_in), the update's own orientation.
        layer: "linear" stores its weight as (d_out, d_in); "conv1d" (GPT-2) and "embedding" store the transpose.
        base_dtype: float32, bfloat16 or float16: the dtype of the weight that this was made for.
        base_sha256: `roselora.files.sha256_tensor` of that weight.

    Values may be zero; they change nothing. The product is Eq. 2 of the paper.

    Raises:
        ConfigError: shapes, dtypes, indices, layer or hash that do not fit together.
        NonFiniteError: NaN or infinity among the values, or a scale that is not finite in float32.

    Example:
        >>> A, B = torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[1.0], [3.0]])
        >>> factors = SparseFactors.from_factors("w", A, B, 0.5, base_dtype=torch.float32, base_sha256="0" * 64)
        >>> factors.a_columns, factors.a_values
        (tensor([[1]]), tensor([[2.]]))
        >>> factors.expand()
        (tensor([1, 4]), tensor([1., 3.]))
    """

    name: str
    a_values: Tensor
    a_columns: Tensor
    b_values: Tensor
    b_rows: Tensor
    scale: float
    shape: tuple[int, int]
    layer: Layer
    base_dtype: torch.dtype
    base_sha256: str

    def __post_init__(self) -> None:
        d_out, d_in = self.shape
        if not self.name:
            raise ConfigError("A weight in a delta has an empty name; give the name it has in the model.")
        if self.layer not in get_args(Layer):
            raise ConfigError(f"{self.name}: layer is {self.layer!r}; it must be one of {get_args(Layer)}.")
        if self.base_dtype not in FLOAT_DTYPES or self.a_values.dtype not in FLOAT_DTYPES:
            raise ConfigError(f"{self.name}: values and base must be float32, bfloat16 or float16.")
        if self.a_values.dtype != self.b_values.dtype or len(self.a_values) != len(self.b_values):
            raise ConfigError(f"{self.name}: A and B must have one dtype and one rank.")
        if not re.fullmatch("[0-9a-f]{64}", self.base_sha256):
            raise ConfigError(f"{self.name}: base_sha256 must be 64 lower-case hexadecimal digits.")
        if not abs(self.scale) <= torch.finfo(torch.float32).max:
            raise NonFiniteError(f"{self.name}: the scale {self.scale} is not a finite float32.")
        _check_factor(self.name, "A", self.a_values, self.a_columns, d_in)
        _check_factor(self.name, "B", self.b_values, self.b_rows, d_out)

    @classmethod
    def from_factors(
        cls,
        name: str,
        A: Tensor,
        B: Tensor,
        scale: float,
        *,
        base_dtype: torch.dtype,
        base_sha256: str,
        layer: Layer = "linear",
    ) -> "SparseFactors":
        """Gather the nonzeros of A (r, d_in) and B (d_out, r).

        k_A is the largest number of nonzeros in a row of A, at least 1. A row with fewer is padded with the value 0 at
        its smallest unused column indices; B's columns likewise. Raises as the class does.
        """
        if A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1] or 0 in (*A.shape, *B.shape):
            raise ConfigError(f"{name}: A {tuple(A.shape)} and B {tuple(B.shape)} must be (r, d_in) and (d_out, r).")
        a_values, a_columns = _gather_nonzeros(A)
        b_values, b_rows = _gather_nonzeros(B.T)
        shape = (B.shape[0], A.shape[1])
        return cls(name, a_values, a_columns, b_values, b_rows, scale, shape, layer, base_dtype, base_sha256)

    def to_factors(self) -> tuple[Tensor, Tensor]:
        """A (r, d_in) and B (d_out, r) with their zeros, in the dtype of the values, on the CPU."""
        d_out, d_in = self.shape
        A = self.a_values.new_zeros(self.rank, d_in).scatter_(1, self.a_columns, self.a_values)
        B = self.b_values.new_zeros(self.rank, d_out).scatter_(1, self.b_rows, self.b_values)
        return A, B.T.contiguous()

    @property
    def rank(self) -> int:
        """The r of (r, d_in)."""
        return len(self.a_values)

    @property
    def transposed(self) -> bool:
        """Whether the weight is stored as (d_in, d_out)."""
        return self.layer != "linear"

    @property
    def stored_shape(self) -> tuple[int, int]:
        """The shape of the weight in the model."""
        d_out, d_in = self.shape
        return (d_in, d_out) if self.transposed else (d_out, d_in)

    @property
    def entries_at_most(self) -> int:
        """An upper bound on the nonzeros of the product, from the numbers of nonzeros in the factors."""
        per_term = self.a_values.count_nonzero(dim=1) * self.b_values.count_nonzero(dim=1)
        return min(int(per_term.sum()), self.shape[0] * self.shape[1])

    def expand_bands(self) -> Iterator[tuple[Ints, Floats]]:
        """The entries of the *stored* weight that change, band by band of its rows; see `expansion.expand_bands`.

        The value of an entry is the sum over i = 1…r of fl(fl(scale * b) * a), added in fp32 in that order.
        """
        a_values = self.a_values.float().numpy()
        with np.errstate(over="ignore"):  # the overlay refuses to write what has overflowed
            b_values = self.b_values.float().numpy() * np.float32(self.scale)
        a_columns, b_rows = self.a_columns.numpy(), self.b_rows.numpy()
        d_out, d_in = self.shape
        if self.transposed:
            return expand_bands(a_columns, a_values, b_rows, b_values, d_out)
        return expand_bands(b_rows, b_values, a_columns, a_values, d_in)

    def expand(self) -> tuple[Tensor, Tensor]:
        """The entries of the *stored* weight that change, and the values to add there.

        They are computed once and cached in this object; the dense product is never formed.

        Returns:
            Flat indices (n,) int64, ascending and unique, and values (n,) float32.
        """
        return self._entries

    @cached_property
    def _entries(self) -> tuple[Tensor, Tensor]:
        with np.errstate(over="ignore", invalid="ignore"):
            bands = list(self.expand_bands())
        if not bands:
            return torch.empty(0, dtype=torch.int64), torch.empty(0)
        index = bands[0][0] if len(bands) == 1 else np.concatenate([band[0] for band in bands])
        value = bands[0][1] if len(bands) == 1 else np.concatenate([band[1] for band in bands])
        return torch.from_numpy(index), torch.from_numpy(value)


@dataclass(frozen=True, eq=False)
class SparseDelta:
    """One update of a model: sparse factors for each weight that it changes, and where it came from.

    Arguments:
        weights: one `SparseFactors` for each weight, each name once; they are sorted by name.
        metadata: anything that JSON can hold, such as method, config, prompt, target, seed, versions and metrics.

    Raises:
        ConfigError: a name occurs twice, there are no weights, or the metadata is not JSON.

    Example:
        >>> import torch
        >>> from roselora import SparseDelta
        >>> from roselora.delta.layer_kinds import layer_factors
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3))
        >>> A = torch.tensor([[0.0, 2.0, 0.0, 0.0]])  # (r, d_in)
        >>> B = torch.tensor([[1.0], [0.0], [3.0]])  # (d_out, r)
        >>> delta = SparseDelta((layer_factors("0", model[0], A, B, scale=0.5),), {"note": "an example"})
        >>> (factors,) = delta.weights
        >>> factors.name, factors.stored_shape
        ('0.weight', (3, 4))
        >>> factors.expand()  # the entries of 0.5 * B @ A that are not zero: flat indices and values
        (tensor([1, 9]), tensor([1., 3.]))
    """

    weights: tuple[SparseFactors, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.weights, key=lambda factors: factors.name))
        names = [factors.name for factors in ordered]
        if not names:
            raise ConfigError("A delta must touch at least one weight.")
        for name, following in pairwise(names):
            if name == following:
                raise ConfigError(f"{name} occurs twice in one delta; give each weight once.")
        try:
            # A copy by way of JSON, so that a delta in memory has the metadata that its file would give back.
            metadata = json.loads(json.dumps(dict(self.metadata), allow_nan=False, sort_keys=True))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"The metadata of a delta must be plain JSON: {error}.") from error
        object.__setattr__(self, "weights", ordered)
        object.__setattr__(self, "metadata", metadata)


def _gather_nonzeros(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Values and ascending indices (r, k) of each row's nonzeros, padded as `from_factors` says."""
    factor = factor.detach().cpu()
    nonzero = factor != 0
    widest = max(1, int(nonzero.sum(dim=1).max()))
    # A stable sort of the flags (r, d) puts each row's nonzeros first, and then its smallest unused indices.
    order = (~nonzero).to(torch.uint8).argsort(dim=1, stable=True)
    index = order[:, :widest].sort(dim=1).values
    return factor.gather(1, index), index


def _check_factor(name: str, which: str, values: Tensor, index: Tensor, dimension: int) -> None:
    if values.ndim != 2 or values.shape != index.shape or values.numel() == 0:
        raise ConfigError(
            f"{name}: {which}'s values {tuple(values.shape)} and indices {tuple(index.shape)} do not match."
        )
    if index.dtype != torch.int64 or values.device.type != "cpu" or index.device.type != "cpu":
        raise ConfigError(f"{name}: {which} must be on the CPU, with int64 indices.")
    if int(index.min()) < 0 or int(index.max()) >= dimension:
        raise ConfigError(f"{name}: {which} has an index outside 0…{dimension - 1}.")
    if not bool((index[:, 1:] > index[:, :-1]).all()):
        raise ConfigError(f"{name}: {which}'s indices must ascend strictly in each row.")
    if not bool(values.isfinite().all()):
        raise NonFiniteError(f"{name}: {which} holds NaN or infinity.")
