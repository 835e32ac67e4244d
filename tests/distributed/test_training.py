"""Training on several ranks gives what one rank gives with the same global batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from roselora.adapter.density_check import verify

OnRanks = Callable[..., list[Any]]
FSDP2 = {
    "fsdp": True,
    "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]},
}


def assert_same_masks_and_weights(ours: dict[str, Tensor], theirs: dict[str, Tensor], exactly: bool = False) -> None:
    assert ours.keys() == theirs.keys()
    for name, factor in ours.items():
        assert torch.equal(factor != 0, theirs[name] != 0), name
        if exactly:
            assert torch.equal(factor, theirs[name]), name
        else:
            torch.testing.assert_close(factor, theirs[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module")
def alone(on_ranks: OnRanks) -> dict[str, Tensor]:
    (factors,) = on_ranks(1, "train_alone")
    assert all(0 < int((factor != 0).sum()) < factor.numel() / 2 for factor in factors.values())
    return factors


@pytest.mark.parametrize(("ranks", "split_optimizer"), [(2, False), (3, False), (2, True)])
def test_ddp_equals_one_rank(on_ranks: OnRanks, alone: dict[str, Tensor], ranks: int, split_optimizer: bool) -> None:
    first, *others = on_ranks(ranks, "train_ddp", split_optimizer)
    assert_same_masks_and_weights(first, alone)
    for other in others:
        assert_same_masks_and_weights(other, first, exactly=True)


@pytest.mark.parametrize("ranks", [2, 3])
def test_fsdp2_equals_one_rank(on_ranks: OnRanks, alone: dict[str, Tensor], ranks: int) -> None:
    results = on_ranks(ranks, "train_fsdp2", {})
    for result in results:
        assert_same_masks_and_weights(result["factors"], alone)
        assert result["steps"] == {10}
        assert result["counts"] == results[0]["counts"]
    # r 2 on three ranks: the last holds no row of any A.
    assert ((0, 20) in results[-1]["local shapes"]) == (ranks == 3)


def test_an_adapter_that_fsdp2_trained_is_saved_whole(on_ranks: OnRanks, tmp_path: Path) -> None:
    on_ranks(2, "save_adapter", tmp_path)
    saved = verify(tmp_path)
    expected = on_ranks(1, "count_alone")[0]
    assert {m.name: m for m in saved.matrices} == {m.name: m for m in expected.matrices}


def test_fsdp2_clamps_the_shards(on_ranks: OnRanks) -> None:
    for result in on_ranks(2, "train_fsdp2", {"clamp": 3e-3}):
        assert max(float(factor.abs().max()) for factor in result["factors"].values()) == pytest.approx(3e-3)


def test_hybrid_sharding_on_four_ranks_equals_one_rank(on_ranks: OnRanks, alone: dict[str, Tensor]) -> None:
    for factors in on_ranks(4, "train_on_a_square"):
        assert_same_masks_and_weights(factors, alone)


@pytest.mark.parametrize(("ranks", "with_fsdp"), [(2, False), (4, True)])
def test_tensor_parallelism_equals_one_rank(
    on_ranks: OnRanks, alone: dict[str, Tensor], ranks: int, with_fsdp: bool
) -> None:
    for result in on_ranks(ranks, "train_tensor_parallel", with_fsdp):
        assert_same_masks_and_weights(result["factors"], alone)
        assert any("dim=0" in placement for placement in result["placements"])


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_masks_of_split_averages_full_of_ties_are_those_of_the_whole(on_ranks: OnRanks, ranks: int, seed: int) -> None:
    assert on_ranks(ranks, "mask_everything", seed) == [144] * ranks


def test_promise_3_a_nan_on_one_rank_is_named_by_all_and_changes_nothing(on_ranks: OnRanks) -> None:
    results = on_ranks(2, "meet_nan")
    assert len({result["message"] for result in results}) == 1
    assert "layers.1.mlp.down_proj.lora_B is NaN or infinite at step 4" in results[0]["message"]
    for result in results:
        assert_same_masks_and_weights(result["after"], result["before"], exactly=True)


def test_a_step_that_a_grad_scaler_skips_is_skipped_on_all_ranks(on_ranks: OnRanks) -> None:
    for plain, fused in zip(*(on_ranks(2, "skip_a_step", fused) for fused in (False, True)), strict=True):
        assert plain["steps"] == fused["steps"] == 10
        assert_same_masks_and_weights(plain["factors"], fused["factors"])


@pytest.fixture(scope="module")
def trainer_alone(on_ranks: OnRanks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    (result,) = on_ranks(1, "train_with_trainer", tmp_path_factory.mktemp("alone"), {})
    return result["factors"]


@pytest.mark.parametrize(("changes", "distributed"), [({}, "MULTI_CPU"), (FSDP2, "FSDP")])
def test_trainer_on_two_ranks_equals_one_rank(
    on_ranks: OnRanks, trainer_alone: dict[str, Tensor], tmp_path: Path, changes: dict[str, Any], distributed: str
) -> None:
    for result in on_ranks(2, "train_with_trainer", tmp_path, changes):
        assert result["distributed type"] == distributed
        assert_same_masks_and_weights(result["factors"], trainer_alone)


@pytest.mark.parametrize("kind", ["SHARDED_STATE_DICT", "FULL_STATE_DICT"])
def test_trainer_resumes_fsdp2_bit_for_bit_and_on_another_number_of_ranks(
    on_ranks: OnRanks, tmp_path: Path, kind: str
) -> None:
    fsdp2 = {"fsdp": True, "fsdp_config": {**FSDP2["fsdp_config"], "state_dict_type": kind}}
    whole = on_ranks(2, "train_with_trainer", tmp_path, {**fsdp2, "save_strategy": "steps", "save_steps": 4})
    for ranks in (2, 3):
        resumed = on_ranks(ranks, "train_with_trainer", tmp_path, fsdp2, "checkpoint-4")
        assert_same_masks_and_weights(resumed[0]["factors"], whole[0]["factors"], exactly=ranks == 2)
    if kind == "FULL_STATE_DICT":
        assert verify(tmp_path / "checkpoint-10").sparsity > 0
