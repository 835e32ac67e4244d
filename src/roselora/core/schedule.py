"""How many entries may stay at each step: the cubic density schedule."""

from roselora.errors import ConfigError


def density_at(step: int, *, target: float, ramp_start: int, ramp_end: int) -> float:
    """Return the fraction of entries to keep after optimizer step `step` (the cubic budget, τ⁽ᵗ⁾).

    It is 1 up to `ramp_start`, falls as target + (1 - target)·(1 - (t - t_i)/(t_f - t_i))³, and is `target` from
    `ramp_end` on. With ramp_start == ramp_end it drops to the target in the step after. It never rises from one step to
    the next and is never below `target`.

    Args:
        step: t, counted from 1.
        target: τ, the final fraction, above 0 and at most 1.
        ramp_start: t_i, the last step at which everything is kept, at least 0.
        ramp_end: t_f, the first step at the target, at least `ramp_start`.

    Raises:
        ConfigError: an argument is outside its range.

    Example:
        >>> [density_at(step, target=0.2, ramp_start=1, ramp_end=3) for step in (1, 2, 3, 4)]
        [1.0, 0.30000000000000004, 0.2, 0.2]
    """
    if step < 1:
        raise ConfigError(f"step counts from 1, so it cannot be {step!r}.")
    if not 0 < target <= 1:
        raise ConfigError(f"The target density must be above 0 and at most 1, not {target!r}.")
    if not 0 <= ramp_start <= ramp_end:
        raise ConfigError(f"The ramp must have 0 <= ramp_start <= ramp_end, not {ramp_start!r} and {ramp_end!r}.")
    if step <= ramp_start:
        return 1.0
    if step >= ramp_end:
        return target
    to_go = 1 - (step - ramp_start) / (ramp_end - ramp_start)
    return target + (1 - target) * to_go**3
