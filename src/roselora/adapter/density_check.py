"""Checks that a finished adapter is as sparse as its config says, row by row and column by column."""

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from roselora.adapter.factors import FactorPair, as_matrix, by_expert
from roselora.adapter.sharding import whole
from roselora.adapter.sparsity_config import SparsityConfig
from roselora.adapter.tracking import adapters_within
from roselora.core.pruning import kept_count
from roselora.core.sparsity import count_product_nonzeros, product_sparsity_bound
from roselora.errors import ConfigError, SparsityError, shortened
from roselora.files import user_path


@dataclass(frozen=True)
class MatrixCounts:
    """The nonzeros of one adapted matrix.

    Attributes:
        name: the adapted module.
        shape: (d_out, d_in) of the update, or (experts, d_out, d_in).
        row_nonzeros: nonzeros in each row of A.
        column_nonzeros: nonzeros in each column of B.
        allowed_in_row: k of A's rows, max(1, floor(density * d_in)).
        allowed_in_column: k of B's columns, max(1, floor(density * d_out)).
        update_nonzeros: nonzero entries of B @ A.
        sparsity_bound: Proposition 1's lower bound on the sparsity of B @ A.
    """

    name: str
    shape: tuple[int, ...]
    row_nonzeros: tuple[int, ...]
    column_nonzeros: tuple[int, ...]
    allowed_in_row: int
    allowed_in_column: int
    update_nonzeros: int
    sparsity_bound: float

    @property
    def entries(self) -> int:
        """The number of entries of the adapted weight."""
        return math.prod(self.shape)

    @property
    def within_budget(self) -> bool:
        """Whether no row of A and no column of B has more nonzeros than allowed."""
        return max(self.row_nonzeros) <= self.allowed_in_row and max(self.column_nonzeros) <= self.allowed_in_column


@dataclass(frozen=True)
class AdapterCounts:
    """The nonzeros of a whole adapter, matrix by matrix."""

    adapter_name: str
    density: float
    matrices: tuple[MatrixCounts, ...]

    def __str__(self) -> str:
        """A line that sums all matrices up."""
        return (
            f"adapter {self.adapter_name!r}, density {self.density:g}, {len(self.matrices)} matrices: "
            f"{self.update_nonzeros:,} of {self.entries:,} entries change, {1 - self.sparsity:.2%} "
            f"(at most {1 - self.sparsity_bound:.2%} by Proposition 1)"
        )

    @property
    def entries(self) -> int:
        """The number of entries of all adapted weights."""
        return sum(matrix.entries for matrix in self.matrices)

    @property
    def update_nonzeros(self) -> int:
        """The number of entries that the update changes."""
        return sum(matrix.update_nonzeros for matrix in self.matrices)

    @property
    def sparsity(self) -> float:
        """The fraction of entries that the update does not change."""
        return 1 - self.update_nonzeros / self.entries

    @property
    def sparsity_bound(self) -> float:
        """Proposition 1's lower bound on :attr:`sparsity`: the matrices' bounds, weighted by their sizes."""
        weighted = (matrix.sparsity_bound * matrix.entries for matrix in self.matrices)
        return sum(weighted) / self.entries


def verify(source: nn.Module | str | os.PathLike[str], adapter_name: str = "default") -> AdapterCounts:
    """Check that a RoseLoRA adapter is at its density, and count its nonzeros.

    Args:
        source: a model with the adapter, or a folder with a saved one. Where the model is sharded over ranks (FSDP2),
            every rank must call this.
        adapter_name: the adapter's name in the model.

    Raises:
        SparsityError: a row of A or column of B has more nonzeros than the config allows, or nothing was trained.
        ConfigError: ``source`` has no RoseLoRA adapter of that name, or its files are missing or malformed.
        NonFiniteError: the adapter holds NaN or infinity.
        UnsupportedError: FSDP1 or DeepSpeed has flattened the model's factors.

    Example:
        >>> import torch
        >>> from peft import get_peft_model
        >>> from roselora import RoseLoraConfig, verify
        >>> base = torch.nn.Sequential(torch.nn.Linear(20, 10))
        >>> config = RoseLoraConfig(r=2, density=0.2, warmup=1, ramp=0, total_steps=2, target_modules=["0"])
        >>> model = get_peft_model(base, config)
        >>> optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
        >>> for _ in range(2):
        ...     model(torch.ones(1, 20)).sum().backward()
        ...     optimizer.step()
        >>> counts = verify(model)
        >>> (matrix,) = counts.matrices
        >>> matrix.row_nonzeros, matrix.column_nonzeros
        ((4, 4), (2, 2))
        >>> counts.sparsity >= counts.sparsity_bound  # Proposition 1
        True
    """
    if isinstance(source, nn.Module):
        for tracked, adapter in adapters_within(source):
            if adapter.name == adapter_name:
                return require_sparse(adapter_name, tracked.pairs(adapter_name), adapter.config.density)
        raise ConfigError(f"This model has no RoseLoRA adapter named {adapter_name!r}.")
    folder = user_path(source)
    if not folder.is_dir():
        raise ConfigError(f"{source} is not a folder here; name an adapter's folder.")
    config = SparsityConfig.from_pretrained(folder)
    return require_sparse(adapter_name, _saved_pairs(folder, config), config.density)


def require_sparse(adapter_name: str, pairs: Iterable[FactorPair], density: float) -> AdapterCounts:
    """Count the nonzeros of an adapter's factors.

    Raises:
        SparsityError: a factor has more than ``density`` allows, or every B is still zero.
    """
    counts = AdapterCounts(adapter_name, density, tuple(_count(pair, density) for pair in pairs))
    if not counts.matrices:
        raise SparsityError(f"Adapter {adapter_name!r} adapts no matrix; check target_modules.")
    if not any(any(matrix.column_nonzeros) for matrix in counts.matrices):
        raise SparsityError(f"Adapter {adapter_name!r} was never trained: its update is zero everywhere.")
    for matrix in counts.matrices:
        if not matrix.within_budget:
            raise SparsityError(
                f"Adapter {adapter_name!r} is not at its density {density}: {matrix.name} keeps up to "
                f"{max(matrix.row_nonzeros)} entries in a row of A ({matrix.allowed_in_row} allowed) and "
                f"{max(matrix.column_nonzeros)} in a column of B ({matrix.allowed_in_column} allowed); "
                "train it to the end of its ramp, or shorten warmup and ramp."
            )
    return counts


def _count(pair: FactorPair, density: float) -> MatrixCounts:
    a, b = as_matrix(whole(pair.a.detach())), as_matrix(whole(pair.b.detach()))
    expert_a, expert_b = by_expert(a, b, pair.experts)
    shape = (b.shape[0], a.shape[1])
    return MatrixCounts(
        name=pair.name,
        shape=shape if pair.experts == 1 else (pair.experts, *shape),
        row_nonzeros=_nonzeros(a, dim=1),
        column_nonzeros=_nonzeros(b, dim=0),
        allowed_in_row=kept_count(density, a.shape[1]),
        allowed_in_column=kept_count(density, b.shape[0]),
        update_nonzeros=int(count_product_nonzeros(expert_a, expert_b).sum()),
        sparsity_bound=float(product_sparsity_bound(expert_a, expert_b).mean()),
    )


def _nonzeros(matrix: Tensor, dim: int) -> tuple[int, ...]:
    return tuple((matrix != 0).sum(dim).tolist())


def _saved_pairs(folder: Path, config: SparsityConfig) -> list[FactorPair]:
    """The factors in an adapter folder as PEFT writes it. Their scale is not read: the counts do not depend on it."""
    if config.target_parameters and config.rank_pattern:
        raise ConfigError(
            f"{folder} adapts stacked experts at several ranks, and does not say which has which; call verify with the "
            "model that has the adapter instead."
        )
    path = folder / SAFETENSORS_WEIGHTS_NAME
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({shortened(str(error))}); save the adapter again.") from None
    pairs = []
    for name, factors in _by_module(tensors).items():
        a, b = factors.get("A"), factors.get("B")
        if a is None or b is None:
            raise ConfigError(f"{path} holds only one of A and B for {name}; save the adapter again.")
        experts = a.shape[0] // config.r if config.target_parameters and a.ndim else 1
        if not _fit(a, b, experts):
            raise ConfigError(
                f"{path} holds A {tuple(a.shape)} and B {tuple(b.shape)} for {name}, which are not "
                "factors of a matrix; save the adapter again."
            )
        pairs.append(FactorPair(name, nn.Parameter(a, False), nn.Parameter(b, False), 1.0, experts))
    return pairs


_KEY = re.compile(r"(?:base_model\.model\.)?(.*?)\.lora_(?:embedding_)?([AB])(?:\..*)?")


def _by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A and B by the adapted module's name; one-byte formats, which torch cannot compare, are converted to float16."""
    found: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        if match := _KEY.fullmatch(key):
            exact = tensor.is_floating_point() and tensor.element_size() > 1
            found[match[1]][match[2]] = tensor if exact else tensor.to(torch.float16)
    return found


def _fit(a: Tensor, b: Tensor, experts: int) -> bool:
    """Whether A is (r, d_in) and B is (d_out, r), possibly with kernel dimensions behind, or with stacked experts."""
    shaped = min(a.ndim, b.ndim) >= 2 and 0 not in (*a.shape, *b.shape) and experts >= 1
    return shaped and a.shape[0] == math.prod(b.shape[1:]) and a.shape[0] % experts == 0
