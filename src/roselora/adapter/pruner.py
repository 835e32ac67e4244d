"""What happens around one optimizer step: score before it, prune after it (Eq. 3, 4, 8-10)."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from roselora.adapter.factors import ROWS, as_matrix
from roselora.adapter.tracking import TrackedAdapter, tracked_models
from roselora.core.importance import sensitivity, smooth_importance_
from roselora.core.pruning import prune_columns_, prune_rows_
from roselora.core.retention import retain_
from roselora.core.schedule import density_at
from roselora.errors import NonFiniteError

# In the optimizer's own state, so that checkpoint and resume carry them with no code of ours.
IMPORTANCE = "roselora_importance"
STEP = "roselora_step"


@dataclass(frozen=True)
class ScoredFactor:
    """One factor on its way through an optimizer step.

    Attributes:
        name: the factor's name, for messages.
        adapter: the adapter it belongs to.
        parameter: A or B itself.
        dim: ROWS for A, COLUMNS for B.
        sensitivity: Eq. 3, of the parameter's shape, fp32.
    """

    name: str
    adapter: TrackedAdapter
    parameter: nn.Parameter
    dim: int
    sensitivity: Tensor


@torch.no_grad()
def score(optimizer: Optimizer) -> list[ScoredFactor]:
    """Take |w · g| of every RoseLoRA factor that ``optimizer`` is about to change.

    Raises:
        ConfigError: an adapter does not know the number of training steps.
        NonFiniteError: a gradient or weight is NaN or infinite; nothing has been changed.
    """
    if _will_be_skipped(optimizer):
        return []
    # Fused optimizers unscale inside their step, so here their gradients still carry the scale.
    gradient_scale = getattr(optimizer, "grad_scale", None)
    scored = []
    for name, adapter, parameter, dim in _trained_factors(optimizer):
        assert parameter.grad is not None
        value = sensitivity(parameter, parameter.grad)
        if gradient_scale is not None:
            value /= gradient_scale.to(value.device)
        if adapter.retention is not None:
            retain_(value, adapter.retention.sensitivities[name], adapter.retention.weight)
        scored.append(ScoredFactor(name, adapter, parameter, dim, value))
    for adapter in {id(factor.adapter): factor.adapter for factor in scored}.values():
        adapter.ramp()
    _refuse_non_finite(scored)
    return scored


@torch.no_grad()
def prune(optimizer: Optimizer, scored: Sequence[ScoredFactor]) -> None:
    """Smooth the scores and zero the least important entries, after the optimizer's own step.

    The density follows each parameter's own count of steps, since layer-wise optimizers step them apart.
    """
    for factor in scored:
        _advance(optimizer, factor)
    prune_again(optimizer, scored)


@torch.no_grad()
def prune_again(optimizer: Optimizer, scored: Sequence[ScoredFactor]) -> None:
    """Clamp and prune by the averages as they are, as when an outer optimizer has moved what an inner step pruned."""
    groups: defaultdict[tuple[float, Hashable], list[ScoredFactor]] = defaultdict(list)
    for factor in scored:
        clamp = factor.adapter.config.clamp
        if clamp is not None:
            factor.parameter.clamp_(-clamp, clamp)
        density = _density(factor.adapter, optimizer.state[factor.parameter][STEP])
        if density < 1:
            groups[density, _shape_key(factor)].append(factor)
    for (density, _), factors in groups.items():
        _prune_group(optimizer, factors, density)


def _trained_factors(optimizer: Optimizer) -> Iterator[tuple[str, TrackedAdapter, nn.Parameter, int]]:
    """Name, adapter, parameter and dimension of every RoseLoRA factor that ``optimizer`` is about to change."""
    owned = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for tracked in tracked_models():
        for adapter in tracked.adapters.values():
            for name, parameter, dim in tracked.factors(adapter.name):
                if id(parameter) in owned and parameter.requires_grad and parameter.grad is not None:
                    yield name, adapter, parameter, dim


def _will_be_skipped(optimizer: Optimizer) -> bool:
    """Whether GradScaler has found infinities that a fused optimizer will answer by doing nothing."""
    found_infinite = getattr(optimizer, "found_inf", None)
    return found_infinite is not None and bool(found_infinite)


def _refuse_non_finite(scored: Sequence[ScoredFactor]) -> None:
    by_device: defaultdict[torch.device, list[Tensor]] = defaultdict(list)
    for factor in scored:
        by_device[factor.sensitivity.device].append(factor.sensitivity.sum())
    # One answer per device, because each makes the host wait.
    if all(bool(torch.stack(sums).isfinite().all()) for sums in by_device.values()):
        return
    for factor in scored:
        if not bool(factor.sensitivity.isfinite().all()):
            raise NonFiniteError(
                f"The gradient or weight of {factor.name} is NaN or infinite at step {factor.adapter.steps + 1} of "
                f"adapter {factor.adapter.name!r}; lower the learning rate, or clip gradients. Nothing was changed."
            )


def _advance(optimizer: Optimizer, factor: ScoredFactor) -> None:
    """Bring a factor's average (Eq. 4) and step count in the optimizer's state up to date."""
    state = optimizer.state[factor.parameter]
    average = state.get(IMPORTANCE)
    if average is None:
        state[IMPORTANCE] = factor.sensitivity
    else:
        # load_state_dict casts state to the parameter's dtype; bf16 is too coarse to average in.
        state[IMPORTANCE] = smooth_importance_(
            average.to(factor.sensitivity.dtype), factor.sensitivity, factor.adapter.config.importance_beta
        )
    state[STEP] = state.get(STEP, 0) + 1
    factor.adapter.steps = max(factor.adapter.steps, state[STEP])


def _density(adapter: TrackedAdapter, step: int) -> float:
    start, end = adapter.ramp()
    return density_at(step, target=adapter.config.density, ramp_start=start, ramp_end=end)


def _shape_key(factor: ScoredFactor) -> Hashable:
    parameter = factor.parameter
    if parameter.device.type == "cpu":
        return id(parameter)  # on CPU stacking only adds copies
    return factor.dim, parameter.shape, parameter.dtype, parameter.device


def _prune_group(optimizer: Optimizer, factors: Sequence[ScoredFactor], density: float) -> None:
    """Prune factors of one shape together: on an accelerator the step is bound by kernel launches."""
    prune_ = prune_rows_ if factors[0].dim == ROWS else prune_columns_
    weights = [as_matrix(factor.parameter.detach()) for factor in factors]
    importances = [as_matrix(optimizer.state[factor.parameter][IMPORTANCE]) for factor in factors]
    if len(factors) == 1:
        prune_(weights[0], importances[0], density)
        return
    stacked = prune_(torch.stack(weights), torch.stack(importances), density)
    torch._foreach_copy_(weights, list(stacked.unbind()))
