"""Core against Eq. 3-10 written out with plain Python loops, step for step over whole training runs."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from roselora.core.importance import sensitivity, smooth_importance_
from roselora.core.pruning import keep_mask, kept_count, prune_columns_, prune_rows_
from roselora.core.schedule import density_at


def naive_density(step, target, ramp_start, ramp_end):
    if step <= ramp_start:
        return 1.0
    if step < ramp_end:
        return target + (1 - target) * (1 - (step - ramp_start) / (ramp_end - ramp_start)) ** 3
    return target


def naive_run(weight, gradients, *, by_column, rate, beta, ramp):
    """Return the weights and the kept positions after every step of SGD and pruning."""
    rows, columns = len(weight), len(weight[0])
    if by_column:
        groups = [[(i, j) for i in range(rows)] for j in range(columns)]
    else:
        groups = [[(i, j) for j in range(columns)] for i in range(rows)]
    weight, average, history = [list(row) for row in weight], {}, []
    for step, gradient in enumerate(gradients, start=1):
        for i in range(rows):
            for j in range(columns):
                score = abs(weight[i][j] * gradient[i][j])
                average[i, j] = score if step == 1 else beta * average[i, j] + (1 - beta) * score
                weight[i][j] = weight[i][j] - rate * gradient[i][j]
        density = naive_density(step, *ramp)
        kept = set()
        for group in groups:
            count = max(1, int(density * len(group)))
            kept.update(sorted(group, key=lambda at: (-average[at], at))[:count])
        weight = [[weight[i][j] if (i, j) in kept else 0.0 for j in range(columns)] for i in range(rows)]
        history.append(([list(row) for row in weight], [[(i, j) in kept for j in range(columns)] for i in range(rows)]))
    return history


def core_run(weight, gradients, *, by_column, rate, beta, ramp):
    weight, average, history = weight.clone(), None, []
    dim, prune = (-2, prune_columns_) if by_column else (-1, prune_rows_)
    target, ramp_start, ramp_end = ramp
    for step, gradient in enumerate(gradients, start=1):
        score = sensitivity(weight, gradient)
        average = score if average is None else smooth_importance_(average, score, beta)
        weight -= rate * gradient
        density = density_at(step, target=target, ramp_start=ramp_start, ramp_end=ramp_end)
        mask = keep_mask(average, kept_count(density, weight.shape[dim]), dim=dim)
        prune(weight, average, density)
        history.append((weight.tolist(), mask.tolist()))
    return history


@st.composite
def runs(draw):
    """Draw a run; in a coarse one all arithmetic is exact, so that scores other than zero tie as well."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rank, width, steps = draw(st.integers(1, 4)), draw(st.integers(1, 12)), draw(st.integers(1, 8))
    by_column, coarse = draw(st.booleans()), draw(st.booleans())
    shape = (width, rank) if by_column else (rank, width)
    gradients = torch.randn(steps, *shape, dtype=torch.float64, generator=generator)
    weight = torch.randn(shape, dtype=torch.float64, generator=generator)
    if coarse:
        gradients, weight = gradients.round(), weight.round()
    if by_column:
        weight.zero_()
    else:
        gradients[0] = 0  # while B is zero, nothing reaches A
    ramp_start = draw(st.integers(0, steps))
    options = {
        "by_column": by_column,
        "rate": 0.5 if coarse else draw(st.floats(0.01, 1.0)),
        "beta": 0.5 if coarse else draw(st.just(0.0) | st.floats(0.1, 0.99)),
        "ramp": (draw(st.floats(0.01, 1.0)), ramp_start, draw(st.integers(ramp_start, steps + 2))),
    }
    return weight, gradients, options


@settings(deadline=None, max_examples=300)
@given(runs())
def test_core_equals_the_equations_written_as_loops_over_a_whole_run(run):
    weight, gradients, options = run
    expected = naive_run(weight.tolist(), gradients.tolist(), **options)
    actual = core_run(weight, gradients, **options)
    for step, (ours, naive) in enumerate(zip(actual, expected, strict=True), start=1):
        assert ours[1] == naive[1], f"the masks differ at step {step}"
        assert ours[0] == naive[0], f"the weights differ at step {step}"
