"""The entry for PEFT's comparison of methods: a config that its program reads, and trains sparse."""

import json
from pathlib import Path

import peft
import pytest

from benchmarks.metamathqa import run as entry
from roselora import RoseLoraConfig

PROGRAM = """
import json, sys, torch
from pathlib import Path
from peft import PeftConfig, get_peft_model

place = sys.argv[-1]
assert sys.argv[1:-1] == ["-v"]
config = PeftConfig.from_pretrained(place)
config.target_modules, config.total_steps, config.task_type = ["0"], 4, None
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(40, 40)), config)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
for _ in range(4):
    model(torch.ones(1, 40)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
kept = model.base_model.model[0].lora_A["default"].weight.count_nonzero(dim=1).unique().tolist()
written = {"run_info": {"peft_config": config.to_dict()}, "kept": kept}
Path("temporary_results").mkdir()
Path("temporary_results", "rose--x.json").write_text(json.dumps(written, default=list))
"""


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    (tmp_path / "run.py").write_text(PROGRAM)
    return tmp_path


def test_the_comparisons_program_trains_a_sparse_adapter_and_its_result_says_so(comparison: Path) -> None:
    result = json.loads(entry.run(comparison, entry.DEFAULT, ["-v"]).read_text())
    assert result["kept"] == [2]  # .05 of each row of 40
    assert result["run_info"]["peft_config"]["peft_type"] == "LORA"
    assert result["run_info"]["peft_config"]["density"] == 0.05


def test_other_configs_are_read_as_ever(tmp_path: Path) -> None:
    peft.LoraConfig(r=3).save_pretrained(tmp_path)
    config = entry.SparseAwareConfig.from_pretrained(str(tmp_path))
    assert type(config) is peft.LoraConfig
    assert config.r == 3


@pytest.mark.parametrize("folder", sorted(entry.EXPERIMENTS.iterdir()), ids=lambda folder: folder.name)
def test_every_experiment_is_at_its_density_before_its_last_step(folder: Path) -> None:
    config = RoseLoraConfig.from_pretrained(folder)
    steps = json.loads((folder / "training_params.json").read_text()).get("max_steps", 5000)  # the comparison's default
    assert config.total_steps == steps
    _, end = config.ramp_bounds(steps)
    assert end < steps
