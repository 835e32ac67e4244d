"""A sparse row keeps the entries that matter most by Eq. 3, and is the best fit on these."""

import pytest
import torch
from torch import Tensor

from roselora.core.importance import sensitivity
from roselora.editing.methods.gate.reference_statistics import ReferenceStatistics
from roselora.editing.methods.gate.ridge_gate import GateInputs, OrdinaryFit, fit_gate
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.rose.sparse_rows import sparse_gate

WIDTH = 12
SETTINGS = EditSettings(density=0.25)


def some(seed: int, count: int) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TEXT, OWN, NEGATIVES, REST = some(0, 90) + 1, some(1, 3), some(2, 5), some(3, 6)
NONE = TEXT[:0]
STATISTICS = ReferenceStatistics(TEXT.T @ TEXT / len(TEXT), TEXT.mean(0), torch.empty(0))


def inputs(entries: slice | Tensor = slice(None)) -> GateInputs:
    def at(states: Tensor) -> Tensor:
        return states[:, entries]

    return GateInputs(at(OWN), at(NONE), at(REST), [at(NEGATIVES)], at(NONE), at(NONE))


def fitted(entries: slice | Tensor = slice(None)) -> Tensor:
    """The direction that is fitted on some entries alone."""
    text = TEXT[:, entries]
    ordinary = OrdinaryFit.from_moments(text.T @ text / len(text), text.mean(0), SETTINGS.ridge)
    return fit_gate(ordinary, inputs(entries), threshold=SETTINGS.threshold, full=SETTINGS.full).direction


def most_sensitive(direction: Tensor, count: int) -> Tensor:
    """The entries of largest |w · ∂L/∂w|, with the gradient of the data's loss by automatic differentiation."""
    parts = [(TEXT, -2.0), (OWN, 1.0), (REST, 0.0), (NEGATIVES, 0.0)]
    penalty = SETTINGS.ridge * STATISTICS.second.diagonal().mean()
    second = penalty * torch.eye(WIDTH) + sum(z.T @ z / len(z) for z, _ in parts)
    w = torch.linalg.solve(second, sum(target * z.mean(0) for z, target in parts))
    torch.testing.assert_close(w / (OWN @ w).mean(), direction)  # the fit, before it is scaled
    w.requires_grad_()
    loss = sum(((z @ w - target) ** 2).mean() / 2 for z, target in parts)
    (gradient,) = torch.autograd.grad(torch.as_tensor(loss), w)
    return sensitivity(w, gradient).topk(count).indices.sort().values


def test_the_entries_with_the_largest_sensitivity_are_kept_and_fitted_anew() -> None:
    dense = fit_gate(
        OrdinaryFit.from_moments(STATISTICS.second, STATISTICS.mean, SETTINGS.ridge),
        inputs(),
        threshold=SETTINGS.threshold,
        full=SETTINGS.full,
    )
    sparse = sparse_gate(dense, STATISTICS, inputs(), SETTINGS)
    kept = most_sensitive(dense.direction, 3)
    assert sparse.direction.nonzero()[:, 0].tolist() == sparse.one.nonzero()[:, 0].tolist() == kept.tolist()
    torch.testing.assert_close(sparse.direction[kept], fitted(kept))
    assert sparse.score(OWN).mean() == pytest.approx(1)


def test_with_density_1_it_is_the_gate_itself() -> None:
    ordinary = OrdinaryFit.from_moments(STATISTICS.second, STATISTICS.mean, SETTINGS.ridge)
    dense = fit_gate(ordinary, inputs(), threshold=SETTINGS.threshold, full=SETTINGS.full)
    torch.testing.assert_close(
        sparse_gate(dense, STATISTICS, inputs(), EditSettings(density=1.0)).direction, dense.direction
    )
