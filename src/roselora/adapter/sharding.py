"""Factors that FSDP2 or tensor parallelism has sharded over ranks (``DTensor``): local parts, masks, agreement.

Under ``Shard(0)``, as FSDP2 uses it, a rank holds

    A (r, d_in)     some of the r rows, each of them whole: they can be pruned without the other ranks.
    B (d_out, r)    some of the d_out rows, so a part of every column. The entries of a column compete with each other,
                    so the scores of the other ranks are needed to find the k largest.

So every rank computes its own scores, and gathers those of B: r numbers for each row of the base weight, of which FSDP
gathers all d_in in every forward pass. Every rank then computes the same global mask, exact in its ties as on one
device, and keeps its own part of it. ``Shard(1)``, as in tensor parallelism, is the same with A and B exchanged.
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
    """This rank's part of a tensor, sharing its memory; the tensor itself if it is not a DTensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, gathered from all ranks. A collective: every rank must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(local: Tensor, other: Tensor) -> Tensor:
    """``local`` as this rank's part of a tensor that is sharded as ``other`` is."""
    if not isinstance(other, DTensor):
        return local
    # Shape and stride are given because torch would otherwise take all ranks' parts to be equally large.
    return DTensor.from_local(
        local, other.device_mesh, other.placements, run_check=False, shape=other.shape, stride=other.stride()
    )


def local_gradient(name: str, parameter: Tensor) -> Tensor:
    """This rank's part of a parameter's gradient, placed as the parameter is.

    Under tensor parallelism a gradient may still be ``Partial``, a sum over ranks that is not yet computed; placing it
    as the parameter computes the sum.

    Raises:
        UnsupportedError: the parameter itself is ``Partial``, so no rank knows the value of any entry.
    """
    gradient = parameter.grad
    assert gradient is not None
    if isinstance(parameter, DTensor) and isinstance(gradient, DTensor):
        if any(placement.is_partial() for placement in parameter.placements):
            raise UnsupportedError(
                f"{name} is placed as {parameter.placements}, a sum over ranks whose entries no rank knows; "
                "place it as Shard or Replicate."
            )
        if gradient.placements != parameter.placements:
            gradient = gradient.redistribute(placements=parameter.placements)
    return local_part(gradient)


def layout(tensor: Tensor) -> Hashable:
    """Equal for tensors that are sharded over the same ranks in the same way."""
    return (tensor.device_mesh, tensor.placements) if isinstance(tensor, DTensor) else None


def competes_across_ranks(factor: Tensor, dim: int) -> bool:
    """Whether the entries of one row of A (dim ROWS) or one column of B (dim COLUMNS) lie on several ranks.

    A column of B runs along dimension 0, so sharding that splits it; a row of A runs along the others.
    """
    return any((shard == 0) == (dim == COLUMNS) for shard in _sharded_dimensions(factor))


def can_be_joined(factor: Tensor, dim: int) -> bool:
    """Whether several factors can be concatenated for one gathering without moving entries between ranks.

    They can if sharding only splits the rows of A, or the columns of B, that :func:`own_masks` lays side by side: then
    each rank concatenates its own parts.
    """
    return all((shard == 0) == (dim == COLUMNS) for shard in _sharded_dimensions(factor))


def own_masks(importances: Sequence[Tensor], density: float, dim: int) -> Sequence[Tensor]:
    """This rank's parts of the masks of n factors of one shape and layout, from a single gathering (Eq. 8-10).

    Args:
        importances: the factors' averages, ``DTensor``; several only if they :func:`can_be_joined`.
        density: the fraction of every row of A or column of B that stays.
        dim: ROWS or COLUMNS.

    Returns:
        Bool tensors of the averages' local shapes.
    """
    # Groups stay whole: n matrices A (r, d_in) are stacked to (n * r, d_in), n matrices B (d_out, r) to (d_out, n * r).
    side = 1 if dim == COLUMNS else 0
    joined = importances[0] if len(importances) == 1 else torch.cat(list(importances), side)
    assert isinstance(joined, DTensor)
    scores = joined.full_tensor()
    matrix = scores.flatten(1)
    mask = keep_mask(matrix, kept_count(density, matrix.shape[dim]), dim=dim).reshape(scores.shape)
    # Every rank has the same whole mask. Redistributing a replicated tensor sends nothing: each rank cuts out its part,
    # of the very size that torch gave it of the scores, also where the ranks' parts are uneven.
    everywhere = [Replicate()] * joined.device_mesh.ndim
    replicated = DTensor.from_local(mask, joined.device_mesh, everywhere, run_check=False)
    own = replicated.redistribute(placements=joined.placements).to_local()
    widths = [local_part(importance).shape[side] for importance in importances]
    return torch.split(own, widths, side)


def true_on_all_ranks(holds: Callable[[Tensor], Tensor], values: Iterable[tuple[Tensor, Tensor]]) -> list[bool]:
    """For each (value, factor), whether ``holds`` is true on every rank that has a part of the factor.

    A collective: all these ranks must call it with the same factors in the same order. So they agree, and raise the
    same error together, where one alone would leave the others waiting in the next collective.

    Args:
        holds: maps a vector of values to a bool vector.
        values: pairs of a scalar tensor, computed from this rank's part of a factor, and the factor.
    """
    # One test for all values of one device and mesh, because reading each answer makes the host wait for the device.
    together: defaultdict[tuple[torch.device, DeviceMesh | None], dict[int, Tensor]] = defaultdict(dict)
    for position, (value, factor) in enumerate(values):
        mesh = factor.device_mesh if isinstance(factor, DTensor) else None
        together[value.device, mesh][position] = value
    answers: dict[int, bool] = {}
    for (_, mesh), own in together.items():
        answer = holds(torch.stack(list(own.values())))
        if mesh is not None:
            answer = answer.int()  # the minimum is the logical and; reducing over each mesh dimension covers all ranks
            for mesh_dim in range(mesh.ndim):
                dist.all_reduce(answer, dist.ReduceOp.MIN, group=mesh.get_group(mesh_dim))
        answers.update(zip(own, answer.bool().tolist(), strict=True))
    return [answers[position] for position in sorted(answers)]


def _sharded_dimensions(tensor: Tensor) -> list[int]:
    if not isinstance(tensor, DTensor):
        return []
    return [placement.dim for placement in tensor.placements if placement.is_shard()]  # type: ignore[attr-defined]


def all_gradients_zero(factors: Sequence[tuple[str, Tensor]]) -> bool:
    """Whether every gradient of these (name, parameter) pairs is 0 on all ranks."""
    any_gradient = ((local_gradient(name, parameter).any(), parameter) for name, parameter in factors)
    return all(true_on_all_ranks(torch.logical_not, any_gradient))
