"""What happens around one optimizer step: the scores, the averages, the schedule, the clamp, retention."""

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from roselora.adapter.factors import factor_pairs
from roselora.adapter.pruner import IMPORTANCE, _stack_size, retain_
from roselora.core.importance import smooth_importance_
from roselora.core.pruning import keep_mask, kept_count
from roselora.core.schedule import density_at
from roselora.errors import ConfigError, NonFiniteError
from tests.adapter.agreement import assert_same, factors

Build = Callable[..., PeftModel]
Train = Callable[..., None]


def test_density_follows_the_schedule(adapted_model: Build, train: Train) -> None:
    model = adapted_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = factor_pairs(model, "default")[0]
    for step in range(1, 11):
        train(model, optimizer, steps=1)
        density = density_at(step, target=0.25, ramp_start=2, ramp_end=7)
        assert all((row != 0).sum() <= kept_count(density, 16) for row in first.a)
        if step <= 2:
            assert bool((first.a != 0).all())


def test_promise_12_a_plain_loop_without_total_steps_is_an_error_at_the_first_step(
    adapted_model: Build, train: Train
) -> None:
    model = adapted_model(total_steps=None)
    before = factors(model)
    with pytest.raises(ConfigError, match="total_steps"):
        train(model, torch.optim.Adam(model.parameters()), steps=1)
    assert_same(before, factors(model))


def test_gradient_accumulation_counts_one_step_and_sees_the_sum(adapted_model: Build, token_ids: Tensor) -> None:
    whole, halves = adapted_model(), adapted_model()
    for model, parts in ((whole, [token_ids]), (halves, list(token_ids.chunk(2)))):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(10):
            for part in parts:
                (model(input_ids=part, labels=part).loss / len(parts)).backward()
            optimizer.step()
            optimizer.zero_grad()
    for a, b in zip(factors(whole), factors(halves), strict=True):
        assert torch.equal(a != 0, b != 0)
        torch.testing.assert_close(a, b)


def test_the_score_is_taken_from_clipped_gradients(adapted_model: Build, token_ids: Tensor) -> None:
    model = adapted_model()
    pair = factor_pairs(model, "default")[0]
    nn.init.ones_(pair.b)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    model(input_ids=token_ids, labels=token_ids).loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    clipped = pair.b.grad.clone()
    optimizer.step()
    torch.testing.assert_close(optimizer.state[pair.b][IMPORTANCE], clipped.abs())


def test_promise_3_a_non_finite_gradient_names_the_layer_and_changes_nothing(
    adapted_model: Build, train: Train
) -> None:
    model = adapted_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train(model, optimizer, steps=3)
    before = factors(model)
    pair = factor_pairs(model, "default")[1]
    for parameter in (p for p in model.parameters() if p.requires_grad):
        parameter.grad = torch.zeros_like(parameter)
    pair.a.grad[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"layers\.0\.mlp\.down_proj\.lora_A.*step 4"):
        optimizer.step()
    assert_same(before, factors(model))


def test_an_optimizer_per_layer_counts_its_own_steps(adapted_model: Build, train: Train) -> None:
    together, apart = adapted_model(), adapted_model()
    train(together, torch.optim.Adam(together.parameters(), lr=1e-2))
    optimizers = [torch.optim.Adam([p], lr=1e-2) for p in apart.parameters() if p.requires_grad]

    class Each:
        def step(self) -> None:
            for optimizer in optimizers:
                optimizer.step()

        def zero_grad(self) -> None:
            for optimizer in optimizers:
                optimizer.zero_grad()

    train(apart, Each())
    assert_same(factors(together), factors(apart))


def test_the_clamp_bounds_both_factors(adapted_model: Build, train: Train) -> None:
    model = adapted_model(clamp=3e-3)
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    assert max(float(factor.abs().max()) for factor in factors(model)) == pytest.approx(3e-3)


def test_stacking_equal_shapes_gives_the_same_as_one_by_one(
    adapted_model: Build, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacked, one_by_one = adapted_model(), adapted_model()
    train(stacked, torch.optim.Adam(stacked.parameters(), lr=1e-2))
    monkeypatch.setattr("roselora.adapter.pruner._stack_size", lambda parameter: 1)
    train(one_by_one, torch.optim.Adam(one_by_one.parameters(), lr=1e-2))
    assert_same(factors(one_by_one), factors(stacked))


def test_a_gpu_prunes_in_parts_of_bounded_size() -> None:
    factor = torch.empty(64, 8192, device="meta")  # A of a 70B model at rank 64, which has hundreds of them
    together = _stack_size(factor)
    assert together == 32
    assert together * factor.numel() * factor.element_size() == 64 << 20
    assert _stack_size(torch.empty(1 << 25, device="meta")) == 1


def test_what_harms_elsewhere_is_subtracted_by_hand() -> None:
    importance = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    result = retain_(importance, torch.tensor([[5.0, 0.0, 0.5, 0.0]]), 0.5)
    assert result is importance
    assert importance.tolist() == [[1.5, 3.0, 1.75, 1.0]]
    assert keep_mask(importance, 2, dim=-1).tolist() == [[False, True, True, False]]


def test_smoothing_the_difference_is_the_difference_of_the_smoothed() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, harms = torch.rand(2, 6, 3, 5, generator=generator, dtype=torch.float64)
    together, apart, harm = scores[0] - 0.7 * harms[0], scores[0].clone(), harms[0].clone()
    for score, hurt in zip(scores[1:], harms[1:], strict=True):
        smooth_importance_(together, retain_(score.clone(), hurt, 0.7), 0.8)
        smooth_importance_(apart, score, 0.8)
        smooth_importance_(harm, hurt, 0.8)
    torch.testing.assert_close(together, apart - 0.7 * harm)


def test_a_negative_weight_or_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 0"):
        retain_(torch.ones(2), torch.ones(2), -1)
    with pytest.raises(ConfigError, match="at least 0"):
        retain_(torch.ones(2), torch.ones(2), float("nan"))
    with pytest.raises(ConfigError, match="must be equal"):
        retain_(torch.ones(2), torch.ones(3), 1)
