"""What happens around one optimizer step: score before it, prune after it (Eq. 3, 4, 8-10)."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from roselora.adapter.engines import refuse_deepspeed
from roselora.adapter.factors import ROWS, as_matrix
from roselora.adapter.sharding import (
    all_gradients_zero,
    can_be_joined,
    competes_across_ranks,
    layout,
    local_gradient,
    local_part,
    own_masks,
    sharded_like,
    true_on_all_ranks,
)
from roselora.adapter.tracking import TrackedAdapter, tracked_models
from roselora.core.importance import sensitivity, smooth_importance_
from roselora.core.pruning import prune_columns_, prune_rows_, zero_unkept_
from roselora.errors import ConfigError, NonFiniteError

_STACKED_ENTRIES_ON_CPU = 1 << 17
"""How many entries are pruned in one call on a CPU: enough to hide the calls' overhead, few enough for its cache."""

_STACKED_ENTRIES = 1 << 24
"""The same on a GPU: reading 64 MiB takes longer than launching a kernel, and what is needed beside the factors, up to
20 bytes an entry for the copies and the running count of ties, stays under 350 MiB however many factors there are."""

# Keys in the optimizer's state of each factor. Being there, they are saved and resumed with every checkpoint.
IMPORTANCE = "roselora_importance"
STEP = "roselora_step"


@dataclass(frozen=True)
class ScoredFactor:
    """One factor between the two hooks of an optimizer step.

    Attributes:
        name: the factor's name, for messages.
        adapter: the adapter it belongs to.
        parameter: A or B itself.
        dim: ROWS for A, COLUMNS for B.
        sensitivity: Eq. 3, fp32, of the shape of the parameter's part on this rank.
        counted: whether this is a training step; see `_only_makes_state`.
    """

    name: str
    adapter: TrackedAdapter
    parameter: nn.Parameter
    dim: int
    sensitivity: Tensor
    counted: bool = True


@torch.no_grad()
def score(optimizer: Optimizer) -> list[ScoredFactor]:
    """Compute |w · g| for every RoseLoRA factor that ``optimizer`` is about to change (Eq. 3).

    Raises:
        ConfigError: an adapter does not know the number of training steps.
        NonFiniteError: a gradient or weight is NaN or infinite, on any rank; nothing has changed.
        UnsupportedError: the engine that trains the model hides A and B, so they cannot be pruned.
    """
    if _will_be_skipped(optimizer):
        return []
    # Under a GradScaler a fused optimizer unscales inside its step, so its gradients here are still scaled.
    gradient_scale = getattr(optimizer, "grad_scale", None)
    scored = []
    for name, adapter, parameter, dim in _trained_factors(optimizer):
        value = sensitivity(local_part(parameter), local_gradient(name, parameter))
        if gradient_scale is not None:
            value /= gradient_scale.to(value.device)
        if adapter.retention is not None:
            retain_(value, local_part(adapter.retention.sensitivities[name]), adapter.retention.weight)
        scored.append(ScoredFactor(name, adapter, parameter, dim, value))
    if _only_makes_state(optimizer, scored):
        return [replace(factor, counted=False) for factor in scored]
    for adapter in {id(factor.adapter): factor.adapter for factor in scored}.values():
        adapter.ramp()
    _refuse_non_finite(scored)
    return scored


@torch.no_grad()
def prune(optimizer: Optimizer, scored: Sequence[ScoredFactor]) -> None:
    """Update the averages (Eq. 4) and zero the least important entries (Eq. 8-10), after the optimizer's own step.

    The density follows each parameter's own step count, because layer-wise optimizers step each layer on its own.
    """
    for factor in scored:
        _advance(optimizer, factor)
    prune_again(optimizer, scored)


@torch.no_grad()
def prune_again(optimizer: Optimizer, scored: Sequence[ScoredFactor]) -> None:
    """Clamp and prune by the current averages; called alone when an outer optimizer moves what an inner step pruned."""
    groups: defaultdict[tuple[float, Hashable], list[ScoredFactor]] = defaultdict(list)
    for factor in scored:
        if not factor.counted:
            continue
        clamp = factor.adapter.config.clamp
        if clamp is not None:
            local_part(factor.parameter).clamp_(-clamp, clamp)
        density = factor.adapter.density_at(optimizer.state[factor.parameter][STEP])
        if density < 1:
            groups[density, _shape_key(factor)].append(factor)
    for (density, _), factors in groups.items():
        if competes_across_ranks(factors[0].parameter, factors[0].dim):
            _prune_across_ranks(optimizer, factors, density)
        else:
            stack = _stack_size(factors[0].parameter)
            for start in range(0, len(factors), stack):
                _prune_stacked(optimizer, factors[start : start + stack], density)


def retain_(importance: Tensor, retention: Tensor, weight: float) -> Tensor:
    """Subtract from the importance what an entry does on prompts that should not move, in place: I ← I - λ·R.

    R = |w · ∂K/∂w| is the sensitivity (Eq. 3) of K, the KL divergence from the base model on those prompts. To first
    order it says how much of K goes if the entry is zeroed, as I says how much of the loss comes back. So the
    difference ranks entries by what they do for the task beyond λ times what they do elsewhere. The moving average (Eq.
    4) is linear, so smoothing the difference is the difference of the smoothed.

    Args:
        importance: I, any shape, fp32 or fp64.
        retention: R, of the same shape, not negative.
        weight: λ, at least 0.

    Returns:
        `importance` itself. It may be negative now; negative entries rank last.

    Raises:
        ConfigError: the weight is negative, or the shapes differ.

    Example:
        >>> retain_(torch.tensor([4.0, 3.0]), torch.tensor([5.0, 0.0]), weight=0.5)
        tensor([1.5000, 3.0000])
    """
    if not weight >= 0:
        raise ConfigError(f"The weight of retention must be at least 0, not {weight!r}.")
    if importance.shape != retention.shape:
        raise ConfigError(
            f"The retention has shape {tuple(retention.shape)} but the importance has {tuple(importance.shape)}; "
            "they must be equal."
        )
    return importance.sub_(retention.to(importance.dtype), alpha=weight)


def _trained_factors(optimizer: Optimizer) -> list[tuple[str, TrackedAdapter, nn.Parameter, int]]:
    """Name, adapter, parameter and dimension of every RoseLoRA factor that ``optimizer`` is about to change.

    They are in the optimizer's order, which is the same on all ranks, because every rank must run the same collectives
    in the same order.
    """
    everything = (parameter for group in optimizer.param_groups for parameter in group["params"])
    positions = {id(parameter): position for position, parameter in enumerate(everything)}
    found = []
    any_trainable = False
    for tracked in tracked_models():
        for adapter in tracked.adapters.values():
            for name, parameter, dim in tracked.factors(adapter.name):
                any_trainable |= parameter.requires_grad
                position = positions.get(id(parameter))
                if position is not None and parameter.requires_grad and parameter.grad is not None:
                    found.append((position, (name, adapter, parameter, dim)))
    if any_trainable:
        refuse_deepspeed()
    return [factor for _, factor in sorted(found, key=itemgetter(0))]


def _will_be_skipped(optimizer: Optimizer) -> bool:
    """Whether GradScaler has found infinities, so that a fused optimizer will change nothing in this step."""
    found_infinite = getattr(optimizer, "found_inf", None)
    return found_infinite is not None and bool(found_infinite)


def _only_makes_state(optimizer: Optimizer, scored: Sequence[ScoredFactor]) -> bool:
    """Whether this step only fills the optimizer's state: torch.distributed.checkpoint takes one before it loads, with
    learning rate 0 and zero gradients.
    """
    if optimizer.state or any(group.get("lr", 0) != 0 for group in optimizer.param_groups):
        return False
    return all_gradients_zero([(factor.name, factor.parameter) for factor in scored])


def _refuse_non_finite(scored: Sequence[ScoredFactor]) -> None:
    # A finite sum proves that every entry is finite, at a fraction of the cost. A sum of finite entries may overflow,
    # so only if one is not finite are all entries tested.
    if all(true_on_all_ranks(torch.isfinite, ((factor.sensitivity.sum(), factor.parameter) for factor in scored))):
        return
    all_finite = ((factor.sensitivity.isfinite().all(), factor.parameter) for factor in scored)
    finite = true_on_all_ranks(Tensor.bool, all_finite)
    for factor, is_finite in zip(scored, finite, strict=True):
        if not is_finite:
            raise NonFiniteError(
                f"The gradient or weight of {factor.name} is NaN or infinite at step {factor.adapter.steps + 1} of "
                f"adapter {factor.adapter.name!r}; lower the learning rate, or clip gradients. Nothing was changed."
            )


def _advance(optimizer: Optimizer, factor: ScoredFactor) -> None:
    """Update a factor's average (Eq. 4) and step count in the optimizer's state."""
    state = optimizer.state[factor.parameter]
    steps = state.get(STEP, 0)
    if steps == 0:
        # Sharded as the parameter is, so that a distributed checkpoint can reshard it over another number of ranks.
        state[IMPORTANCE] = sharded_like(factor.sensitivity, factor.parameter)
    else:
        # load_state_dict casts the state to the parameter's dtype, and bf16 is too coarse for a moving average.
        average = state[IMPORTANCE] = state[IMPORTANCE].to(factor.sensitivity.dtype)
        smooth_importance_(local_part(average), factor.sensitivity, factor.adapter.config.importance_beta)
    state[STEP] = steps + int(factor.counted)
    factor.adapter.steps = max(factor.adapter.steps, state[STEP])


def _shape_key(factor: ScoredFactor) -> Hashable:
    """Equal for factors that can be pruned in one call."""
    parameter = factor.parameter
    if competes_across_ranks(parameter, factor.dim) and not can_be_joined(parameter, factor.dim):
        return id(parameter)
    return factor.dim, parameter.shape, parameter.dtype, parameter.device, layout(parameter)


def _stack_size(parameter: Tensor) -> int:
    """How many factors of this size to prune in one call."""
    entries = _STACKED_ENTRIES_ON_CPU if parameter.device.type == "cpu" else _STACKED_ENTRIES
    return max(1, entries // max(1, parameter.numel()))


def _prune_stacked(optimizer: Optimizer, factors: Sequence[ScoredFactor], density: float) -> None:
    """Prune n factors of one shape in one call, as (n, r, d_in) or (n, d_out, r).

    A model has hundreds of small factors; one by one, the overhead of the calls and kernel launches dominates.
    """
    prune_ = prune_rows_ if factors[0].dim == ROWS else prune_columns_
    weights = [as_matrix(local_part(factor.parameter).detach()) for factor in factors]
    importances = [as_matrix(local_part(optimizer.state[factor.parameter][IMPORTANCE])) for factor in factors]
    if weights[0].numel() == 0:  # there are more ranks than rows, and this rank holds none
        return
    if len(factors) == 1:
        prune_(weights[0], importances[0], density)
        return
    stacked = prune_(torch.stack(weights), torch.stack(importances), density)
    torch._foreach_copy_(weights, list(stacked.unbind()))


def _prune_across_ranks(optimizer: Optimizer, factors: Sequence[ScoredFactor], density: float) -> None:
    """Prune factors of one shape whose rows of A or columns of B are each split over ranks."""
    importances = [optimizer.state[factor.parameter][IMPORTANCE] for factor in factors]
    for factor, mask in zip(factors, own_masks(importances, density, factors[0].dim), strict=True):
        zero_unkept_(local_part(factor.parameter), mask)
