import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from torch import Tensor, nn

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.density_check import verify
from roselora.adapter.factors import FactorPair, factor_pairs
from roselora.adapter.pruner import STEP
from roselora.core.importance import sensitivity, smooth_importance_
from roselora.core.pruning import kept_count, prune_columns_, prune_rows_
from roselora.core.schedule import density_at
from roselora.errors import UnsupportedError
from tests.adapter.agreement import assert_same, factors

Build = Callable[..., PeftModel]
Train = Callable[..., None]


def sparse(pair: FactorPair, density: float) -> bool:
    """Count for ourselves, without verify()."""
    rows = [int((row != 0).sum()) for row in pair.a]
    columns = [int((column != 0).sum()) for column in pair.b.T]
    return max(rows) <= kept_count(density, pair.a.shape[1]) and max(columns) <= kept_count(density, pair.b.shape[0])


def test_importing_the_config_installs_nothing() -> None:
    program = (
        "from roselora import RoseLoraConfig\n"
        "from torch.optim import optimizer\n"
        "from peft.tuners.tuners_utils import BaseTuner\n"
        "assert not optimizer._global_optimizer_pre_hooks and not optimizer._global_optimizer_post_hooks\n"
        "assert not hasattr(BaseTuner.inject_adapter, '_roselora')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_plain_loop_equals_the_method_written_out(
    base_model: Callable[[], nn.Module], adapted_model: Build, train: Train, token_ids: Tensor
) -> None:
    ours = adapted_model()
    start = factors(ours)
    train(ours, torch.optim.Adam(ours.parameters(), lr=1e-2))

    # A plain LoRA model, with Eq. 3-10 around every step by hand.
    plain = get_peft_model(base_model(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
    pairs = factor_pairs(plain, "default")
    parameters = [factor for pair in pairs for factor in (pair.a, pair.b)]
    with torch.no_grad():
        for parameter, value in zip(parameters, start, strict=True):
            parameter.copy_(value)
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    averages: list[Tensor] = []
    for step in range(1, 11):
        plain(input_ids=token_ids, labels=token_ids).loss.backward()
        scores = [sensitivity(p.detach(), p.grad) for p in parameters]
        averages = (
            [smooth_importance_(m, s, 0.8) for m, s in zip(averages, scores, strict=True)] if averages else scores
        )
        optimizer.step()
        density = density_at(step, target=0.25, ramp_start=2, ramp_end=7)
        for index, parameter in enumerate(parameters):
            (prune_rows_ if index % 2 == 0 else prune_columns_)(parameter.data, averages[index], density)
        optimizer.zero_grad()

    assert_same(factors(ours), [p.detach() for p in parameters])


def test_every_row_of_a_and_column_of_b_ends_at_its_density(adapted_model: Build, train: Train) -> None:
    model = adapted_model()
    train(model, torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1))
    assert all(sparse(pair, 0.25) for pair in factor_pairs(model, "default"))


def test_only_the_active_adapter_is_pruned(adapted_model: Build, train: Train) -> None:
    model = adapted_model()
    model.add_adapter(
        "second", RoseLoraConfig(r=4, density=0.5, warmup=2, ramp=5, total_steps=10, target_modules=["q_proj"])
    )
    model.add_adapter("plain", LoraConfig(r=4, target_modules=["q_proj"]))
    model.set_adapter("second")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first, plain = factors(model, "default"), factors(model, "plain")
    train(model, optimizer)
    assert_same(first, factors(model, "default"))
    assert_same(plain, factors(model, "plain"))
    assert all(sparse(pair, 0.5) for pair in factor_pairs(model, "second"))

    model.set_adapter("plain")
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    assert not any(sparse(pair, 0.5) for pair in factor_pairs(model, "plain"))


def test_a_plain_adapter_that_takes_the_name_of_ours_is_not_pruned(adapted_model: Build, train: Train) -> None:
    model = adapted_model()
    model.add_adapter("other", LoraConfig(r=4, target_modules=["q_proj"]))
    model.set_adapter("other")
    model.delete_adapter("default")
    model.add_adapter("default", LoraConfig(r=4, target_modules=["q_proj"]))
    model.set_adapter("default")
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    assert not any(sparse(pair, 0.25) for pair in factor_pairs(model, "default"))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copied_model_is_pruned_too(adapted_model: Build, train: Train, copier: Callable[[Any], Any]) -> None:
    original = adapted_model()
    twin = copier(original)
    untouched = factors(original)
    train(twin, torch.optim.Adam(twin.parameters(), lr=1e-2))
    assert verify(twin).sparsity > 0
    assert_same(untouched, factors(original))


def test_promise_12_inject_adapter_in_model_is_pruned_though_its_lora_model_is_gone(
    base_model: Callable[[], nn.Module], train: Train
) -> None:
    config = RoseLoraConfig(r=4, density=0.25, warmup=2, ramp=5, total_steps=10, target_modules=["q_proj"])
    model = inject_adapter_in_model(config, base_model())
    train(model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2))
    assert verify(model).sparsity > 0


def test_transformers_own_add_adapter_is_pruned(base_model: Callable[[], Any], train: Train) -> None:
    model = base_model()
    model.add_adapter(RoseLoraConfig(r=4, density=0.25, warmup=2, ramp=5, total_steps=10, target_modules=["q_proj"]))
    train(model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2))
    assert verify(model).sparsity > 0


def test_a_closure_gives_the_same_result_as_no_closure(adapted_model: Build, train: Train, token_ids: Tensor) -> None:
    plain, closed = adapted_model(), adapted_model()
    train(plain, torch.optim.Adam(plain.parameters(), lr=1e-2))
    optimizer = torch.optim.Adam(closed.parameters(), lr=1e-2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = closed(input_ids=token_ids, labels=token_ids).loss
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)
    assert_same(factors(plain), factors(closed))


class NestedAdam(torch.optim.Adam):
    """Calls its parent's step, so that the hooks fire twice, and then moves the weights once more."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # torch puts the hooks into a class's step when its first instance is made: without one, nothing nests.
        torch.optim.Adam([torch.zeros(1, requires_grad=True)])
        super().__init__(*arguments, **options)

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.add_(1e-3)
        return loss


def test_a_nested_optimizer_counts_each_step_once_and_ends_sparse(adapted_model: Build, train: Train) -> None:
    model = adapted_model()
    optimizer = NestedAdam(model.parameters(), lr=1e-2)
    train(model, optimizer)
    pair = factor_pairs(model, "default")[0]
    assert optimizer.state[pair.a][STEP] == 10
    assert sparse(pair, 0.25)


def test_a_step_that_raised_does_not_disturb_the_next(adapted_model: Build, train: Train, token_ids: Tensor) -> None:
    class Fails(torch.optim.Adam):
        fail = True

        def step(self, closure: Any = None) -> Any:
            if self.fail:
                raise RuntimeError("out of memory")
            return super().step(closure)

    model, reference = adapted_model(), adapted_model()
    optimizer = Fails(model.parameters(), lr=1e-2)
    with pytest.raises(RuntimeError):
        train(model, optimizer, steps=1)
    optimizer.zero_grad()
    optimizer.fail = False
    train(model, optimizer)
    train(reference, torch.optim.Adam(reference.parameters(), lr=1e-2))
    assert_same(factors(model), factors(reference))


@pytest.mark.parametrize("fused", [False, True])
def test_a_grad_scaler_changes_nothing_and_a_skipped_step_is_not_counted(
    adapted_model: Build, train: Train, token_ids: Tensor, fused: bool
) -> None:
    scaled, reference = adapted_model(), adapted_model()
    train(reference, torch.optim.Adam(reference.parameters(), lr=1e-2, fused=fused))
    optimizer = torch.optim.Adam(scaled.parameters(), lr=1e-2, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    for step in range(11):
        loss = scaled(input_ids=token_ids, labels=token_ids).loss
        scaler.scale(loss * (float("inf") if step == 4 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    pair = factor_pairs(scaled, "default")[0]
    assert optimizer.state[pair.a][STEP] == 10
    for ours, theirs in zip(factors(scaled), factors(reference), strict=True):
        assert torch.equal(ours != 0, theirs != 0)
        torch.testing.assert_close(ours, theirs)


def test_an_embedding_and_a_conv1d_are_pruned(train: Train) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    base = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    config = RoseLoraConfig(
        r=4, density=0.25, warmup=2, ramp=5, total_steps=10, target_modules=["c_attn", "wte"], fan_in_fan_out=True
    )
    model = get_peft_model(base, config)
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    report = verify(model)
    assert {matrix.shape for matrix in report.matrices} == {(48, 16), (16, 64)}
    for pair in factor_pairs(model, "default"):
        assert sparse(pair, 0.25)


def test_a_config_changed_after_it_was_made_is_checked_at_injection(base_model: Callable[[], nn.Module]) -> None:
    config = RoseLoraConfig(target_modules=["q_proj"])
    config.use_dora = True
    with pytest.raises(UnsupportedError, match="use_dora"):
        get_peft_model(base_model(), config)


@pytest.mark.parametrize("option", ["modules_to_save", "trainable_token_indices"])
def test_modules_trained_whole_are_warned_of_even_if_added_to_the_config_later(
    base_model: Callable[[], nn.Module], option: str
) -> None:
    config = RoseLoraConfig(target_modules=["q_proj"])
    setattr(config, option, {"modules_to_save": ["lm_head"], "trainable_token_indices": {"embed_tokens": [3]}}[option])
    with pytest.warns(UserWarning, match=f"{option} are trained whole: (lm_head|embed_tokens)"):
        get_peft_model(base_model(), config)


def test_an_adapter_of_a_mixed_model_is_pruned(base_model: Callable[[], nn.Module], train: Train) -> None:
    def config(density: float) -> RoseLoraConfig:
        return RoseLoraConfig(r=4, density=density, warmup=2, ramp=5, total_steps=10, target_modules=["q_proj"])

    model = get_peft_model(base_model(), config(0.25), mixed=True)
    model.add_adapter("second", config(0.5))
    model.set_adapter(["default", "second"])
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    assert all(sparse(pair, 0.25) for pair in factor_pairs(model, "default"))
    assert all(sparse(pair, 0.5) for pair in factor_pairs(model, "second"))
    assert verify(model).density == 0.25
    assert verify(model, "second").density == 0.5


def test_the_clamp_holds_after_an_outer_optimizer_has_moved_the_weights(adapted_model: Build, train: Train) -> None:
    model = adapted_model(clamp=3e-3)
    train(model, NestedAdam(model.parameters(), lr=1e-2))
    assert max(float(factor.abs().max()) for factor in factors(model)) == pytest.approx(3e-3)


def test_pruning_at_the_first_step_where_all_scores_tie_is_warned_of(adapted_model: Build) -> None:
    with pytest.warns(UserWarning, match="warmup=0 prunes at the first step"):
        adapted_model(warmup=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="warmup=0")
        adapted_model(warmup=1)
