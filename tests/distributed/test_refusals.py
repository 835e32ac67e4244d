"""What cannot be pruned is refused with a clear error at the first step, and never trained dense."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from peft import get_peft_model
from torch import nn
from transformers import TrainerControl, TrainerState

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.factors import factor_pairs
from roselora.adapter.trainer_callback import RoseLoraCallback
from roselora.errors import UnsupportedError

OnRanks = Callable[..., list[Any]]


@pytest.mark.parametrize("use_orig_params", [True, False])
@pytest.mark.parametrize("wrap_leaves", [True, False])
def test_fsdp1_is_refused_and_fsdp2_is_named(on_ranks: OnRanks, use_orig_params: bool, wrap_leaves: bool) -> None:
    for message in on_ranks(2, "refuse_fsdp1", use_orig_params, wrap_leaves):
        assert message.startswith("RoseLoRA does not support FSDP1")
        assert "fsdp_version: 2" in message


def test_a_factor_that_is_a_sum_over_ranks_is_refused(on_ranks: OnRanks) -> None:
    for message in on_ranks(2, "refuse_partial"):
        assert "q_proj.lora_A is placed as (Partial(sum),)" in message
        assert "place it as Shard or Replicate" in message


# DeepSpeed is not installed: these stand-ins carry what its sources (0.19.6) put on parameters and on Accelerate.


@pytest.fixture
def model() -> nn.Module:
    gc.collect()  # an earlier test's model is tracked as long as it lives
    base = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    return get_peft_model(base, RoseLoraConfig(r=2, density=0.5, total_steps=4, target_modules=["0"]))


@pytest.mark.parametrize("mark", ["_hp_mapping", "ds_id"])
def test_factors_that_deepspeed_has_partitioned_are_refused_when_its_own_optimizer_steps(
    model: nn.Module, mark: str
) -> None:
    for pair in factor_pairs(model, "default"):
        setattr(pair.a, mark, None)  # ZeRO leaves None on ranks that hold no part of the parameter
        setattr(pair.b, mark, None)
    partition = nn.Parameter(torch.zeros(24))
    partition.grad = torch.ones(24)
    before = partition.detach().clone()
    with pytest.raises(UnsupportedError, match=r"does not support DeepSpeed.*use DDP or FSDP2"):
        torch.optim.Adam([partition]).step()
    assert torch.equal(partition, before)


@pytest.fixture
def under_deepspeed() -> Any:
    Accelerator(cpu=True)
    AcceleratorState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
    PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("under_deepspeed")
def test_a_step_under_accelerates_deepspeed_is_refused(model: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="does not support DeepSpeed"):
        torch.optim.Adam([nn.Parameter(torch.zeros(3))]).step()


@pytest.mark.usefixtures("under_deepspeed")
def test_a_trainer_under_deepspeed_is_refused_before_the_first_step(model: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="does not support DeepSpeed"):
        RoseLoraCallback().on_train_begin(None, TrainerState(max_steps=4), TrainerControl(), model=model)


@pytest.mark.usefixtures("under_deepspeed")
def test_deepspeed_may_train_another_model_beside_a_frozen_adapter(model: nn.Module) -> None:
    model.requires_grad_(False)
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    torch.optim.SGD([parameter], lr=1.0).step()
    assert torch.equal(parameter.detach(), torch.zeros(3))
