"""Whole runs in several processes: one lock, the same error for all, and a signal to one stops all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OnRanks = Callable[..., list[Any]]


@pytest.fixture
def settings(tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    records = [{"prompt": f"{n} and one make", "completion": f" {n + 1}"} for n in range(8)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return {
        "model": str(tiny_model_folder),
        "output": str(tmp_path / "out"),
        "data": {"train": str(tmp_path / "data.jsonl")},
        "adapter": {"rank": 4, "density": 0.25, "target_modules": ["q_proj"]},
        "training": {"max_steps": 10, "batch_size": 2, "device": "cpu"},
    }


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_all_at_one_step_with_one_checkpoint(
    on_ranks: OnRanks, settings: dict[str, Any], rank: int
) -> None:
    assert on_ranks(2, "interrupt_one", settings, rank, False) == [{"stopped at": 3, "processes": 2}] * 2
    (checkpoint,) = Path(settings["output"], "checkpoints").glob("checkpoint-*")
    states = {path.name for path in checkpoint.glob("rng_state*")}
    assert (
        states
        == {"rng_state_0.pth", "rng_state_1.pth"}
        <= json.loads((checkpoint / "whole.json").read_text())["files"].keys()
    )
    if rank == 1:
        assert on_ranks(2, "interrupt_one", settings, rank, True) == [{"finished": True}, {"finished": False}]


@pytest.mark.parametrize(("taken", "message"), [(True, "is locked by process"), (False, "holds no run to resume")])
def test_an_error_of_the_main_process_is_raised_in_all(
    on_ranks: OnRanks, settings: dict[str, Any], taken: bool, message: str
) -> None:
    first, second = on_ranks(2, "claim_one_output", settings, taken)
    assert first == second
    assert message in first
