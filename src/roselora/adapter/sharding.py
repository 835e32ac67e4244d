"""Factors that FSDP2 or tensor parallelism has split over ranks (``DTensor``): local parts, masks, agreement.

All scores are local. A mask is local too where a rank holds whole groups (a row of A under ``Shard(0)``); where the
entries that compete lie on several ranks (a column of B), their scores are gathered. That is r / d_in of what FSDP
gathers of the base weight in every forward pass, and it keeps the result exact: the k largest, ties by lowest index.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate

from roselora.adapter.factors import COLUMNS
from roselora.core.pruning import keep_mask, kept_count
from roselora.errors import UnsupportedError


def local_part(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, sharing its memory; the tensor itself where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor that all ranks hold together; a collective, so every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(local: Tensor, other: Tensor) -> Tensor:
    """``local`` as this rank's part of a tensor that is split as ``other`` is."""
    if not isinstance(other, DTensor):
        return local
    return DTensor.from_local(
        local, other.device_mesh, other.placements, run_check=False, shape=other.shape, stride=other.stride()
    )


def local_gradient(name: str, parameter: Tensor) -> Tensor:
    """This rank's part of a parameter's gradient, summed over ranks where that is still to be done.

    Raises:
        UnsupportedError: the parameter itself is a sum over ranks (``Partial``), of which no rank knows an entry.
    """
    gradient = parameter.grad
    assert gradient is not None
    if isinstance(parameter, DTensor) and isinstance(gradient, DTensor):
        if any(placement.is_partial() for placement in parameter.placements):
            raise UnsupportedError(
                f"{name} is placed as {parameter.placements}, a sum that is spread over ranks; "
                "place it as Shard or Replicate."
            )
        if gradient.placements != parameter.placements:
            gradient = gradient.redistribute(placements=parameter.placements)
    return local_part(gradient)


def layout(tensor: Tensor) -> Hashable:
    """Equal for tensors that are split over the same ranks in the same way."""
    return (tensor.device_mesh, tensor.placements) if isinstance(tensor, DTensor) else None


def competes_across_ranks(factor: Tensor, dim: int) -> bool:
    """Whether the entries of one row of A (dim ROWS) or column of B (dim COLUMNS) lie on several ranks."""
    return any((shard == 0) == (dim == COLUMNS) for shard in _sharded_dimensions(factor))


def can_be_joined(factor: Tensor, dim: int) -> bool:
    """Whether whole rows of A or columns of B can be laid side by side without moving entries between ranks."""
    return all((shard == 0) == (dim == COLUMNS) for shard in _sharded_dimensions(factor))


def own_masks(importances: Sequence[Tensor], density: float, dim: int) -> Sequence[Tensor]:
    """This rank's parts of the masks of factors of one shape and layout, by a single gathering (Eq. 8-10).

    Args:
        importances: the factors' averages, ``DTensor``; several only if they :func:`can_be_joined`.
        density: the fraction of every row of A or column of B that stays.
        dim: ROWS or COLUMNS.

    Returns:
        Bool tensors of the averages' local shapes.
    """
    side = 1 if dim == COLUMNS else 0
    joined = importances[0] if len(importances) == 1 else torch.cat(list(importances), side)
    assert isinstance(joined, DTensor)
    scores = joined.full_tensor()
    matrix = scores.flatten(1)
    mask = keep_mask(matrix, kept_count(density, matrix.shape[dim]), dim=dim).reshape(scores.shape)
    everywhere = [Replicate()] * joined.device_mesh.ndim
    replicated = DTensor.from_local(mask, joined.device_mesh, everywhere, run_check=False)
    own = replicated.redistribute(placements=joined.placements).to_local()
    widths = [local_part(importance).shape[side] for importance in importances]
    return torch.split(own, widths, side)


def true_on_all_ranks(holds: Callable[[Tensor], Tensor], values: Iterable[tuple[Tensor, Tensor]]) -> list[bool]:
    """For each (value, factor), whether ``holds`` is true of the values of all ranks that hold a part of the factor.

    Every such rank must ask, for the same factors in the same order. All values of one device and mesh are tested at
    once, because each answer makes the host wait.

    Args:
        holds: from a vector of values to a bool vector.
        values: a tensor of no dimensions, computed from this rank's part of the factor, and the factor.
    """
    together: defaultdict[tuple[torch.device, DeviceMesh | None], dict[int, Tensor]] = defaultdict(dict)
    for position, (value, factor) in enumerate(values):
        mesh = factor.device_mesh if isinstance(factor, DTensor) else None
        together[value.device, mesh][position] = value
    answers: dict[int, bool] = {}
    for (_, mesh), own in together.items():
        answer = holds(torch.stack(list(own.values())))
        if mesh is not None:
            answer = answer.int()
            for mesh_dim in range(mesh.ndim):
                dist.all_reduce(answer, dist.ReduceOp.MIN, group=mesh.get_group(mesh_dim))
        answers.update(zip(own, answer.bool().tolist(), strict=True))
    return [answers[position] for position in sorted(answers)]


def _sharded_dimensions(tensor: Tensor) -> list[int]:
    if not isinstance(tensor, DTensor):
        return []
    return [placement.dim for placement in tensor.placements if placement.is_shard()]  # type: ignore[attr-defined]


def all_gradients_zero(factors: Sequence[tuple[str, Tensor]]) -> bool:
    """Whether every gradient of these parameters, each with its name, is 0 on all ranks."""
    any_gradient = ((local_gradient(name, parameter).any(), parameter) for name, parameter in factors)
    return all(true_on_all_ranks(torch.logical_not, any_gradient))
