"""Training under a rising scale, against plain LoRA whose scale is really raised before every step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.density_check import verify
from roselora.adapter.factors import adapted_layers, factor_pairs
from roselora.adapter.pruner import GROWTH, STEP
from roselora.adapter.tracking import adapters_within
from roselora.core.importance import sensitivity, smooth_importance_
from roselora.core.pruning import kept_count, prune_columns_, prune_rows_
from roselora.core.schedule import density_at
from roselora.errors import ConfigError
from tests.adapter.agreement import assert_same, factors, trainable
from tests.adapter.test_hooks import NestedAdam

Build = Callable[..., PeftModel]
Train = Callable[..., None]


def density(step: int) -> float:
    return density_at(step, target=0.25, ramp_start=2, ramp_end=7)


def test_it_equals_lora_whose_scale_is_raised_before_every_step(
    base_model: Callable[[], nn.Module], adapted_model: Build, token_ids: Tensor
) -> None:
    ours: Any = adapted_model(rising_scale=True).double()
    start = factors(ours)
    optimizer = torch.optim.Adam(trainable(ours), lr=1e-2, betas=(0.0, 0.0), eps=1e-30)  # whose step is the sign alone
    for _ in range(10):
        ours(input_ids=token_ids, labels=token_ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    plain: Any = get_peft_model(base_model(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
    plain.double()
    pairs = factor_pairs(plain, "default")
    parameters = [factor for pair in pairs for factor in (pair.a, pair.b)]
    with torch.no_grad():
        for parameter, value in zip(parameters, start, strict=True):
            parameter.copy_(value)
    optimizer = torch.optim.Adam(parameters, lr=1e-2, betas=(0.0, 0.0), eps=1e-30)
    averages: list[Tensor] = []
    for step in range(1, 11):
        for _, layer in adapted_layers(plain, "default"):
            layer.scaling["default"] = 2 * (density(step - 1) if step > 1 else 1) ** -0.5
        plain(input_ids=token_ids, labels=token_ids).loss.backward()
        scores = [sensitivity(p.detach(), p.grad) for p in parameters]
        averages = (
            [smooth_importance_(m, s, 0.8) for m, s in zip(averages, scores, strict=True)] if averages else scores
        )
        optimizer.step()
        for index, parameter in enumerate(parameters):
            (prune_rows_ if index % 2 == 0 else prune_columns_)(parameter.data, averages[index], density(step))
        optimizer.zero_grad()

    for own, pair in zip(factor_pairs(ours, "default"), pairs, strict=True):
        assert own.scale == 2
        torch.testing.assert_close(own.b @ own.a, 0.25**-0.5 * (pair.b @ pair.a), rtol=1e-6, atol=1e-12)


def test_it_changes_what_is_trained_but_not_how_sparse_it_is(adapted_model: Build, train: Train) -> None:
    paper, rising = adapted_model(), adapted_model(rising_scale=True)
    for model in (paper, rising):
        train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    assert verify(rising).sparsity > 0
    first, second = (factor_pairs(model, "default")[0] for model in (paper, rising))
    assert (second.b @ second.a).norm() > 1.5 * (first.b @ first.a).norm()


def test_the_dense_steps_are_those_of_the_paper(adapted_model: Build, train: Train) -> None:
    paper, rising = adapted_model(), adapted_model(rising_scale=True)
    for model in (paper, rising):
        train(model, torch.optim.Adam(model.parameters(), lr=1e-2), steps=2)
    assert_same(factors(paper), factors(rising))


def test_a_closure_and_an_optimizer_per_layer_give_the_same(
    adapted_model: Build, train: Train, token_ids: Tensor
) -> None:
    plain, closed, apart = (adapted_model(rising_scale=True) for _ in range(3))
    train(plain, torch.optim.Adam(plain.parameters(), lr=1e-2))
    optimizer = torch.optim.Adam(closed.parameters(), lr=1e-2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = closed(input_ids=token_ids, labels=token_ids).loss
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)
    assert_same(factors(plain), factors(closed))

    optimizers = [torch.optim.Adam([p], lr=1e-2) for p in trainable(apart)]
    for _ in range(10):
        apart(input_ids=token_ids, labels=token_ids).loss.backward()
        for one in optimizers:
            one.step()
            one.zero_grad()
    assert_same(factors(plain), factors(apart))


def test_a_nested_optimizer_raises_the_scale_once_a_step(adapted_model: Build, train: Train) -> None:
    model = adapted_model(rising_scale=True)
    optimizer = NestedAdam(model.parameters(), lr=1e-2)
    train(model, optimizer)
    pair = factor_pairs(model, "default")[0]
    assert optimizer.state[pair.b][STEP] == 10
    assert optimizer.state[pair.b][GROWTH] == 2
    assert [int((column != 0).sum()) for column in pair.b.T] == [kept_count(0.25, 16)] * 4


def test_training_goes_on_where_it_was_stopped(adapted_model: Build, train: Train) -> None:
    whole, halves = adapted_model(rising_scale=True), adapted_model(rising_scale=True)
    train(whole, torch.optim.Adam(whole.parameters(), lr=1e-2))
    optimizer = torch.optim.Adam(halves.parameters(), lr=1e-2)
    train(halves, optimizer, steps=5)
    resumed = adapted_model(rising_scale=True)
    resumed.load_state_dict(halves.state_dict())
    again = torch.optim.Adam(resumed.parameters(), lr=1e-2)
    again.load_state_dict(optimizer.state_dict())
    train(resumed, again, steps=5)
    assert_same(factors(whole), factors(resumed))


def norm(model: PeftModel) -> float:
    return sum(float((pair.b @ pair.a).detach().norm()) for pair in factor_pairs(model, "default"))


def test_an_adapter_whose_training_goes_on_is_not_scaled_up_again(adapted_model: Build, train: Train) -> None:
    model = adapted_model(rising_scale=True)
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    size = norm(model)
    for _ in range(2):
        train(model, torch.optim.Adam(model.parameters(), lr=0.0))
        assert norm(model) == pytest.approx(size, rel=1e-5)


def test_a_run_that_is_resumed_to_be_longer_is_not_scaled_up_again(adapted_model: Build, train: Train) -> None:
    model = adapted_model(rising_scale=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train(model, optimizer)
    size = norm(model)
    for tracked, adapter in adapters_within(model):
        assert tracked.trains(adapter.name)
        adapter.total_steps, adapter.config.ramp = 30, 25  # at step 10 the density of this schedule is far above .25
    optimizer.param_groups[0]["lr"] = 0.0
    train(model, optimizer, steps=20)
    assert norm(model) == pytest.approx(size, rel=1e-5)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_anything_but_true_and_false_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="rising_scale"):
        RoseLoraConfig(r=4, rising_scale=value)
