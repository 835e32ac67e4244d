"""``roselora train`` as a user runs it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from roselora.cli.main import app
from roselora.cli.train import _run
from roselora.errors import StoppedError, StoreError
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import Interrupted

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def config(tiny_model_folder: Path, tmp_path: Path) -> Path:
    records = [{"prompt": f"{n} and one make", "completion": f" {n + 1}"} for n in range(8)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    path = tmp_path / "config.yaml"
    path.write_text(
        f"model: {tiny_model_folder}\ndata: {{train: data.jsonl, eval: data.jsonl}}\n"
        "adapter: {rank: 4, density: 0.25}\ntraining: {max_steps: 10, log_steps: 1}\noutput: out\n"
    )
    return path


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_an_output_within_an_edit_store_is_refused(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edits" / "deltas").mkdir(parents=True)
    (tmp_path / "edits" / "edits.sqlite").write_bytes(b"a store")
    result = CliRunner().invoke(app, ["train", "config.yaml", "--output", "edits/deltas/run", *dry_run])
    assert isinstance(result.exception, StoreError)
    assert "within the edit store" in str(result.exception)
    assert list((tmp_path / "edits" / "deltas").iterdir()) == []


def test_init_prints_a_config_that_a_run_accepts(run: Run, tmp_path: Path, tiny_model_folder: Path) -> None:
    shown = run("train", "--init")
    assert shown.returncode == 0
    (tmp_path / "made.yaml").write_text(shown.stdout)
    (tmp_path / "data.jsonl").write_text('{"text": "one"}\n')
    plan = run("train", "made.yaml", "--model", str(tiny_model_folder), "--dry-run", "--json")
    assert json.loads(plan.stdout)["steps"] == 3
    assert not (tmp_path / "output").exists()


def test_a_run_shows_what_it_verified_and_where_everything_is(run: Run, config: Path, tmp_path: Path) -> None:
    shown = run("train", "config.yaml")
    assert shown.returncode == 0, shown.stderr
    assert "verified: density 0.25" in shown.stdout
    assert "validation loss" in shown.stdout
    for name in ("adapter/adapter_model.safetensors", "adapter/README.md", "adapter/training.png", "delta.safetensors"):
        assert (tmp_path / "out" / name).is_file()
    assert "Traceback" not in shown.stderr
    again = run("train", "config.yaml")
    assert again.returncode == 2
    assert "not empty" in again.stderr


def test_json_holds_the_counts_and_the_metrics(run: Run, config: Path) -> None:
    result = json.loads(run("train", "config.yaml", "--json", "--method", "rose", "--seed", "3").stdout)
    assert result["density"] == 0.25
    assert result["sparsity"] >= result["sparsity_bound"]
    assert result["metrics"]["eval_loss"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name a config file"),
        (["config.yaml", "--set", "adapter.densty=1"], "did you mean density"),
        (["config.yaml", "--data", "nowhere.jsonl"], "There is no data file nowhere.jsonl"),
        (["none.yaml"], "none.yaml cannot be read"),
    ],
)
def test_invalid_usage_is_one_line_and_writes_nothing(
    run: Run, config: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    shown = run("train", *arguments)
    assert shown.returncode == 2
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on(run: Run, config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("max_steps: 10", "max_steps: 400"))
    process = subprocess.Popen(
        [sys.executable, "-c", "from roselora.cli.main import main; main()", "train", "config.yaml"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    # The settings are written just before the first step.
    while not (tmp_path / "out" / "config.yaml").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Resume with: roselora train out/config.yaml --resume" in error
    (checkpoint,) = (tmp_path / "out" / "checkpoints").glob("checkpoint-*")
    assert (checkpoint / "optimizer.pt").is_file()


def test_two_processes_train_together_and_one_of_them_reports(config: Path, tmp_path: Path) -> None:
    # Two epochs: each process sees half of the examples.
    config.write_text(config.read_text().replace("max_steps: 10", "epochs: 2, batch_size: 4"))
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    shown = subprocess.run(
        [sys.executable, "-m", *launcher, "roselora.cli.main", "train", "config.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    assert shown.returncode == 0, shown.stderr
    assert "2 steps in" in shown.stdout  # of 8 examples, 4 at a time
    assert shown.stdout.count("verified: density 0.25") == 1
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()


def test_presets_are_listed_with_their_sources_and_ours_as_ours(run: Run) -> None:
    lines = run("train", "--list-presets").stdout.splitlines()
    assert [line for line in lines if line.startswith("roselora-")] == [line for line in lines if ": Ours" in line]
    shown = json.loads(run("train", "--list-presets", "--json").stdout)
    assert shown["llm-adapters-lora"]["adapter"]["rank"] == 32
    result = run("train", "--preset", "none", "--data", "d.jsonl", "--model", "demo")
    assert result.returncode != 0
    assert "no preset 'none'" in result.stderr


@pytest.mark.parametrize("output", ["out", "two words/$HOME/it's", "-o", "runs/[1]"])
@pytest.mark.parametrize("count", [1, 2])
def test_the_command_that_is_printed_after_an_interruption_names_the_runs_own_config(
    monkeypatch: pytest.MonkeyPatch, output: str, count: int
) -> None:
    outcome = Interrupted(3, 10, Path(output, "checkpoints", "checkpoint-3"), count)
    monkeypatch.setattr("roselora.training.training_run.train", lambda *_, **__: outcome)
    settings = TrainSettings.model_validate({"model": "demo", "output": output, "data": {"train": "d.jsonl"}})
    with pytest.raises(StoppedError) as told:
        _run(settings, resume=False, json=False)
    before, command = str(told.value).split(" with: ")
    assert ("Resume in 2 processes" in before) == (count == 2)
    roselora, verb, config, resume = shlex.split(command)
    assert (roselora, verb, resume) == ("roselora", "train", "--resume")
    assert not config.startswith("-")
    assert Path(config) == Path(settings.output, "config.yaml")
