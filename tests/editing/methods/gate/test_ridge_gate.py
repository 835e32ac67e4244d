import pytest
import torch
from torch import Tensor
from torch.nn import functional

from roselora.editing.methods.gate import ridge_gate
from roselora.editing.methods.gate.ridge_gate import HIGHEST, Gate, GateInputs, OrdinaryFit, fit_gate

NONE = torch.empty(0, 7, dtype=torch.float64)
LIMITS = {"threshold": 0.6, "full": 0.75}


def some(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ordinary(text: Tensor, ridge: float = 0.3) -> OrdinaryFit:
    return OrdinaryFit.from_moments(text.T @ text / len(text), text.mean(0), ridge)


def naive(
    text: Tensor,
    own: Tensor,
    groups: list[Tensor],
    rest: Tensor,
    *,
    rephrased: Tensor | None = None,
    share: float = 1.0,
    wanted: tuple[float, float, float] = (-2.0, 1.0, 0.0),
) -> Tensor:
    """A direction by stacking all equations of the weighted least squares, unscaled; groups weigh ``share``.

    ``wanted`` of text, of own inputs, and of the others.
    """
    penalty = (0.3 * (text.T @ text / len(text)).diagonal().mean()).sqrt()
    rows, targets = [penalty * torch.eye(text.shape[1], dtype=text.dtype)], [torch.zeros(text.shape[1])]
    parts = [(text, 1.0), (own, 1.0), (rest, 1.0), *((group, share) for group in groups)]
    targets_of_parts = [*wanted[:2], *[wanted[2]] * (len(parts) - 2)]
    if rephrased is not None:
        parts.append((rephrased, 1.0))
        targets_of_parts.append(wanted[1])
    for (inputs, weight), target in zip(parts, targets_of_parts, strict=True):
        root = (weight / len(inputs)) ** 0.5
        rows.append(root * inputs)
        targets.append(torch.full((len(inputs),), root * target))
    return torch.linalg.lstsq(torch.cat(rows), torch.cat(targets).double()[:, None]).solution[:, 0]


def test_the_direction_is_the_weighted_least_squares_fit() -> None:
    text, own, groups = some(0, 90, 7) + 1, some(1, 3, 7), [some(2, 5, 7), some(3, 4, 7)]
    rest, rephrased = some(4, 6, 7), some(5, 2, 7)
    gate = fit_gate(ordinary(text), GateInputs(own, rephrased, rest, groups, NONE, NONE), **LIMITS)
    expected = naive(text, own, groups, rest, rephrased=rephrased)
    torch.testing.assert_close(gate.direction, expected / (own @ expected).mean())
    assert gate.score(own).mean() == pytest.approx(1)


def test_of_many_inputs_those_that_score_highest_become_negatives_in_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge_gate, "HARDEST", 2)
    text, own, group, rest, many = some(0, 90, 7) + 1, some(1, 3, 7), some(2, 5, 7), some(4, 6, 7), some(5, 20, 7)
    chosen: set[int] = set()
    expected = naive(text, own, [group], rest)
    for _ in range(2):
        chosen |= set((many @ expected).argsort()[-2:].tolist())
        expected = naive(text, own, [group, many[sorted(chosen)]], rest)
    # The model's answers to negatives and other edits compete for the same places.
    gate = fit_gate(ordinary(text), GateInputs(own, NONE, rest, [group], many[:8], many[8:]), **LIMITS)
    torch.testing.assert_close(gate.direction, expected / (own @ expected).mean())


@pytest.mark.parametrize(("share", "raised"), [(0.7, None), (0.95, HIGHEST), (0.1, 0.6)])
def test_the_threshold_is_raised_to_the_score_at_other_edits_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, share: float, raised: float | None
) -> None:
    monkeypatch.setattr(ridge_gate, "HARDEST", 0)
    text, own, rest = some(0, 90, 7) + 1, some(1, 1, 7).repeat(3, 1), some(4, 6, 7)
    fit = fit_gate(ordinary(text), GateInputs(own, NONE, rest, [], NONE, NONE), **LIMITS)
    # An input at which the neuron is active below the threshold `share` and inactive above it, and one twice as long.
    wanted = torch.tensor([share, 1.0], dtype=torch.float64)
    others = torch.linalg.lstsq(torch.stack([fit.direction, fit.one]), wanted).solution * torch.tensor([[1.0], [2.0]])
    gate = fit_gate(ordinary(text), GateInputs(own, NONE, rest, [], NONE, others), **LIMITS)
    assert gate.threshold == pytest.approx(share if raised is None else raised)
    assert gate.full - gate.threshold == pytest.approx(0.15)
    answers = fit_gate(ordinary(text), GateInputs(own, NONE, rest, [], others, NONE), **LIMITS)
    assert answers.threshold == 0.6


def test_where_a_prompt_scores_low_the_gate_is_open_at_it_all_the_same() -> None:
    text, own, rest = some(0, 90, 7) + 1, some(1, 3, 7), some(4, 6, 7)
    gate = fit_gate(ordinary(text), GateInputs(own, NONE, rest, [], NONE, NONE), **LIMITS)
    lowest = float(gate.score(own).min())
    assert 0.15 < lowest < 0.75
    assert (gate.full, gate.threshold) == (pytest.approx(lowest), pytest.approx(lowest - 0.15))


def test_one_reads_about_one_everywhere() -> None:
    text = some(0, 200, 6) * 0.1 + torch.arange(1.0, 7.0)
    one = ordinary(text, ridge=1e-3).one
    assert float((some(9, 50, 6) * 0.1 + torch.arange(1.0, 7.0)).matmul(one).sub(1).abs().max()) < 0.1


def test_the_bias_of_a_gate_is_the_least_squares_fit_of_one_to_all_that_the_gate_is_fitted_to() -> None:
    none = NONE.new_empty(0, 60)
    text, own, group, rest = some(0, 90, 60), some(1, 3, 60) + 2, some(2, 5, 60) - 3, some(4, 6, 60)
    gate = fit_gate(ordinary(text), GateInputs(own, none, rest, [group], none, none), **LIMITS)
    expected = naive(text, own, [group], rest, wanted=(1.0, 1.0, 1.0))
    torch.testing.assert_close(gate.one, expected / (own @ expected).mean())


def test_a_neuron_is_inactive_below_the_threshold_and_then_rises_linearly() -> None:
    """The score is an input's first entry; the second is the bias."""
    gate = Gate(torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), 0.4, 1.0, 1.0)
    scores = torch.tensor([-1.0, 0.0, 0.3, 0.7, 1.0, 1.6])
    inputs = torch.stack([scores, torch.ones(6), torch.ones(6)], 1)
    row, gain = gate.row()
    by_hand = torch.tensor([0.0, 0.0, 0.0, 0.5, 1.0, 2.0])
    for act in (functional.relu, functional.gelu):
        torch.testing.assert_close(gain * act(inputs @ row), by_hand, atol=1e-3, rtol=0)
    # SiLU dips below zero before it rises, so this one opens less sharply.
    torch.testing.assert_close(gain * functional.silu(inputs @ row), by_hand, atol=0.005, rtol=0)


def test_a_gated_linear_unit_levels_off_at_the_highest_score_of_the_edited_prompts() -> None:
    """With θ = 0.4, full at 0.6 and the top at 1.2 the activity is (s - 0.4)(2 - s) / (0.2 · 1.4), by hand."""
    gate = Gate(torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), 0.4, 0.6, 1.2)
    inputs = torch.stack([torch.tensor([-1.0, 0.3, 0.6, 1.2, 1.8]), torch.ones(5), torch.ones(5)], 1)
    row, up, gain = gate.gated_rows()
    activity = gain * functional.relu(inputs @ row) * (inputs @ up)
    torch.testing.assert_close(activity, torch.tensor([0.0, 0.0, 1.0, 0.64 / 0.28, 1.0]))
    assert float(inputs[3] @ up) == pytest.approx(1)


def test_no_edited_prompt_scores_above_the_top_of_its_gate() -> None:
    """One prompt of two scores far above their mean: beyond the parabola whose top is there, if it were at the mean."""
    none = NONE.new_empty(0, 6)
    prompts = torch.cat([some(1, 1, 6), 6 * some(1, 1, 6)])
    gate = fit_gate(ordinary(some(0, 90, 6)), GateInputs(prompts, none, none, [none], none, none), **LIMITS)
    assert float(gate.score(prompts).max()) == pytest.approx(gate.top)
    row, up, gain = gate.gated_rows()
    assert float((gain * functional.relu(prompts @ row) * (prompts @ up)).min()) > 0
