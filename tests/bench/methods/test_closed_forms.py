"""The closed forms solve what their papers say they solve, on toy layers, against naive references."""

import pytest
import torch
from torch import Tensor

from roselora.bench.methods.alphaedit import null_projection, projected_update
from roselora.bench.methods.locate_then_edit import ridged
from roselora.bench.methods.memit import least_squares_update
from roselora.bench.methods.rome import rank_one_update

D_IN, D_OUT = 12, 7


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def moments(rank: int = 40) -> Tensor:
    K0 = randn(D_IN, rank) * torch.linspace(0.2, 3, D_IN, dtype=torch.float64)[:, None]
    return K0 @ K0.T / rank


def test_romes_update_maps_the_key_to_the_value_exactly() -> None:
    W, k, v, C = randn(D_OUT, D_IN), randn(D_IN), randn(D_OUT), moments()
    update = rank_one_update(k, v - W @ k, C)
    torch.testing.assert_close((W + update) @ k, v)
    assert torch.linalg.matrix_rank(update) == 1


def test_romes_update_disturbs_the_texts_keys_least_of_all_that_map_the_key_to_the_value() -> None:
    k, residual, C = randn(D_IN), randn(D_OUT), moments()
    update = rank_one_update(k, residual, C)

    def disturbance(D: Tensor) -> float:
        return float((D @ C @ D.T).trace())

    for size in (1e-3, 0.1, 1.0):
        other = randn(D_OUT, D_IN) * size
        other -= torch.outer(other @ k, k) / (k @ k)  # so that it, too, maps k to v
        torch.testing.assert_close((update + other) @ k, residual)
        assert disturbance(update + other) > disturbance(update)
    assert disturbance(rank_one_update(k, residual, torch.eye(D_IN).double())) > disturbance(update)


def test_memits_update_satisfies_the_normal_equations_and_is_a_minimum() -> None:
    K, R, C0 = randn(D_IN, 5), randn(D_OUT, 5), 3.0 * moments()
    update = least_squares_update(K, R, C0)
    torch.testing.assert_close(update @ (C0 + K @ K.T), R @ K.T)
    torch.testing.assert_close(update, R @ K.T @ torch.linalg.inv(C0 + K @ K.T))

    def objective(D: Tensor) -> float:
        return float((D @ K - R).square().sum() + (D @ C0 @ D.T).trace())

    assert all(objective(update + randn(D_OUT, D_IN) * 0.01) > objective(update) for _ in range(5))


def test_the_projection_is_one_onto_the_directions_that_the_text_does_not_use() -> None:
    K0 = randn(D_IN, 4)
    P = null_projection(K0 @ K0.T / 4, 1e-8)
    torch.testing.assert_close(P @ P, P)
    torch.testing.assert_close(P, P.T)
    torch.testing.assert_close(P @ K0, torch.zeros_like(K0))
    assert torch.linalg.matrix_rank(P) == D_IN - 4
    values = torch.diag(torch.tensor([1.0, 1e-3, 2.0]))
    torch.testing.assert_close(null_projection(values, 0.02), torch.diag(torch.tensor([0.0, 1.0, 0.0]).double()))


def test_alphaedit_leaves_preserved_keys_alone_and_without_the_projection_it_would_not() -> None:
    K0, K, R, none = randn(D_IN, 4), randn(D_IN, 3), randn(D_OUT, 3), randn(D_IN, 0)
    P = null_projection(K0 @ K0.T / 4, 1e-8)
    update = projected_update(K, R, none, P, ridge=1e-6)
    torch.testing.assert_close(update @ K0, torch.zeros(D_OUT, 4).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(update @ K, R, rtol=1e-4, atol=1e-4)
    free = projected_update(K, R, none, torch.eye(D_IN).double(), ridge=1e-6)
    assert float((free @ K0).norm()) > 0.1


def test_alphaedit_is_the_papers_closed_form_and_holds_earlier_keys() -> None:
    K0, Kp, K, R = randn(D_IN, 4), randn(D_IN, 2), randn(D_IN, 3), randn(D_OUT, 3)
    P = null_projection(K0 @ K0.T / 4, 1e-8)
    for ridge in (1.0, 10.0):
        paper = R @ K.T @ P @ torch.linalg.inv(Kp @ Kp.T @ P + K @ K.T @ P + ridge * torch.eye(D_IN).double())
        torch.testing.assert_close(projected_update(K, R, Kp, P, ridge), paper)
    held, not_held = (projected_update(K, R, earlier, P, 1e-6) for earlier in (Kp, Kp[:, :0]))
    assert float((held @ Kp).norm()) < 1e-4 < 0.1 < float((not_held @ Kp).norm())


def test_a_neuron_that_never_fires_can_be_solved_with() -> None:
    C = moments()
    C[0], C[:, 0] = 0, 0
    k = randn(D_IN)
    torch.testing.assert_close(rank_one_update(k, randn(D_OUT), ridged(C)).isfinite().all(), torch.tensor(True))
    torch.testing.assert_close(ridged(C), C, rtol=1e-4, atol=1e-5)
