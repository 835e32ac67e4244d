"""torch.distributed.checkpoint carries the pruner's averages and step counts, on any number of ranks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor, nn

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.factors import factor_pairs
from roselora.adapter.pruner import STEP, score

OnRanks = Callable[..., list[Any]]
MIDWAY = 4  # in the ramp: dense to step 2, at the target density from step 7


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture(scope="module")
def saved(on_ranks: OnRanks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A checkpoint of two ranks, and what they held and ended with."""
    folder = tmp_path_factory.mktemp("checkpoint")
    return folder, on_ranks(2, "save_midway", folder, MIDWAY)[0]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_averages_and_counts_are_restored_exactly_on_any_number_of_ranks(
    on_ranks: OnRanks, saved: tuple[Path, dict[str, Any]], ranks: int
) -> None:
    folder, before = saved
    for result in on_ranks(ranks, "resume_midway", folder, MIDWAY):
        assert_equal(result["weights"], before["weights"])
        assert_equal(result["averages"], before["averages"])
        assert result["counts"] == before["counts"] == {MIDWAY}
        for name, factor in result["factors"].items():
            assert torch.equal(factor != 0, before["factors"][name] != 0), name
            torch.testing.assert_close(factor, before["factors"][name])
        if ranks == 2:
            assert_equal(result["factors"], before["factors"])


def test_a_whole_state_from_one_rank_resumes_bit_for_bit(on_ranks: OnRanks, saved: tuple[Path, dict[str, Any]]) -> None:
    for factors in on_ranks(2, "resume_from_whole_state", MIDWAY):
        assert_equal(factors, saved[1]["factors"])


def test_asking_for_a_state_before_training_neither_prunes_nor_counts(on_ranks: OnRanks) -> None:
    for result in on_ranks(2, "ask_for_state_before_training"):
        assert result["counts"] == {0}
        assert_equal(result["asked"], result["not asked"])


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    return get_peft_model(base, RoseLoraConfig(r=2, density=0.5, warmup=0, ramp=2, total_steps=4, target_modules=["0"]))


def test_a_training_step_of_rate_0_counts_as_one_when_there_are_gradients(model: nn.Module) -> None:
    # The first step of transformers' linear warmup has rate 0.
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)
    model(torch.ones(3, 6)).sum().backward()
    optimizer.step()
    for pair in factor_pairs(model, "default"):
        assert optimizer.state[pair.a][STEP] == optimizer.state[pair.b][STEP] == 1


def test_factors_are_scored_in_the_optimizers_order_which_all_ranks_share(model: nn.Module) -> None:
    for backwards in (False, True):
        parameters = sorted((p for p in model.parameters() if p.requires_grad), key=id, reverse=backwards)
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        scored = score(torch.optim.SGD(parameters, lr=0.1))
        assert [id(factor.parameter) for factor in scored] == [id(parameter) for parameter in parameters]
