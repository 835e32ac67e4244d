from pathlib import Path

import pytest
import torch

from roselora.bench.records.edit_bench_records import Cost
from roselora.bench.running.sequence_checkpoint import AttemptedEdit, BaseWeights, Checkpoint
from roselora.errors import FileFormatError

CHECKPOINT = Checkpoint(
    {"layer.weight": torch.ones(2, 3, dtype=torch.bfloat16)},
    {"keys": torch.arange(4.0)},
    [AttemptedEdit(Cost(1.5, 10, None, 2.5), None), AttemptedEdit(None, "EditError: No.")],
)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    CHECKPOINT.save(tmp_path / "checkpoint")
    found = Checkpoint.load(tmp_path / "checkpoint")
    assert found.attempts == CHECKPOINT.attempts
    assert found.weights["layer.weight"].dtype == torch.bfloat16
    assert torch.equal(found.weights["layer.weight"], CHECKPOINT.weights["layer.weight"])
    assert torch.equal(found.memory["keys"], CHECKPOINT.memory["keys"])


@pytest.mark.parametrize("keep", [0, 4, 200])
def test_a_damaged_checkpoint_is_refused_and_the_message_says_what_to_do(tmp_path: Path, keep: int) -> None:
    CHECKPOINT.save(tmp_path / "checkpoint")
    (tmp_path / "checkpoint").write_bytes((tmp_path / "checkpoint").read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"is not a run's checkpoint .*delete it to start again"):
        Checkpoint.load(tmp_path / "checkpoint")


def test_base_weights_are_compared_with_and_restored() -> None:
    model = torch.nn.Linear(3, 2)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    base = BaseWeights(model)
    assert (base.changed(), base.changed_entries()) == ({}, 0)
    with torch.no_grad():
        model.weight[0] += 1
    assert list(base.changed()) == ["weight"]
    assert base.changed_entries() == 3
    edited = base.changed()
    base.restore()
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    base.restore(edited)
    assert torch.equal(model.weight, edited["weight"])
    assert torch.equal(model.bias, before["bias"])
