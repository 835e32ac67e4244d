"""``roselora bench commonsense`` as a user runs it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.conftest import FILES


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, records in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(map(json.dumps, records)) if path.suffix == ".jsonl" else json.dumps(records))
    return tmp_path


@pytest.fixture
def arguments(data: Path, tiny_model_folder: Path) -> list[str]:
    return [
        "--model",
        str(tiny_model_folder),
        "--data-dir",
        str(data),
        "--sets",
        "boolq",
        "--output",
        str(data / "out"),
    ]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(run: Any, arguments: list[str], data: Path) -> None:
    result = run("bench", "commonsense", *arguments, "--seeds", "0,1", "--methods", "rose,lora", "--dry-run", "--json")
    shown = json.loads(result.stdout)
    assert shown["questions"] == {"boolq": 2}
    assert shown["runs"] == ["base, seed 0", "rose, seed 0", "rose, seed 1", "lora, seed 0", "lora, seed 1"]
    assert not (data / "out").exists()


def test_it_runs_and_names_its_report(run: Any, arguments: list[str], data: Path) -> None:
    settings = ["--set", "training.max_steps=3", "--set", "adapter.rank=2", "--set", "adapter.density=0.5"]
    result = run("bench", "commonsense", *arguments, "--methods", "rose", *settings, "--json")
    assert {Path(path).name for path in json.loads(result.stdout)["files"]} >= {"report.md", "report.json"}
    report = (data / "out" / "report.md").read_text()
    assert "| rose |" in report
    assert '- rose: `{"adapter": {"rank": 2,' in report


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--seeds", "one"], "whole numbers"),
        (["--sets", "sums"], "no set"),
        (["--methods", "magic"], "magic"),
    ],
)
def test_invalid_usage_is_one_sentence(run: Any, arguments: list[str], changed: list[str], says: str) -> None:
    result = run("bench", "commonsense", *arguments, *changed)
    assert result.returncode != 0
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2


def test_shares_of_the_data_are_parts_of_one_report(run: Any, arguments: list[str], data: Path) -> None:
    settings = ["--set", "training.max_steps=2", "--set", "adapter.rank=2", "--set", "adapter.density=0.5"]
    asked = ["--after", "commonsense", "--shares", "50,100", "--methods", "rose", *settings]
    shown = json.loads(run("bench", "datasize", *arguments, *asked, "--dry-run", "--json").stdout)
    assert [part["training_records"] for part in shown["parts"]] == [2, 4]
    run("bench", "datasize", *arguments, *asked)
    report = (data / "out" / "report.md").read_text()
    assert "| method | 50% (2 records) | 100% (4 records) | average |" in report
    assert (data / "out" / "50%" / "report.md").exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["datasize", "--shares", "200"], "at most 100 per cent"),
        (["datasize", "--shares", "some"], "different numbers above 0"),
        (["datasize", "--after", "sums"], "no benchmark"),
        (["forgetting", "--n", "0"], "at least one question"),
        (["glue", "--sets", "snli"], "GLUE has no set 'snli'"),
        (["glue", "--sets", ""], "no set to train on"),
    ],
)
def test_invalid_usage_of_a_run_in_parts_is_one_sentence(
    run: Any, data: Path, tiny_model_folder: Path, asked: list[str], says: str
) -> None:
    result = run(
        "bench", *asked, "--model", str(tiny_model_folder), "--data-dir", str(data), "--output", str(data / "o")
    )
    assert result.returncode != 0
    assert says in result.stderr
    assert not (data / "o").exists()


def test_instructions_are_answered_written_for_alpaca_eval_and_weighed(
    run: Any, data: Path, tiny_model_folder: Path
) -> None:
    settings = ["--set", "training.max_steps=2", "--set", "adapter.rank=2", "--set", "adapter.density=0.5"]
    asked = ["bench", "instruct", "--model", str(tiny_model_folder), "--data-dir", str(data), "--methods", "rose"]
    result = run(*asked, *settings, "--output", str(data / "out"), "--json")
    assert {Path(path).name for path in json.loads(result.stdout)["files"]} >= {"base-0.json", "rose-0.json"}
    outputs = json.loads((data / "out" / "outputs" / "rose-0.json").read_text())
    assert [output["instruction"] for output in outputs] == ["Name a metal.", "Write nothing.", "Name a bird."]
    assert {output["generator"] for output in outputs} == {f"{tiny_model_folder.name}, rose, seed 0"}
    report = (data / "out" / "report.md").read_text()
    assert "## Likelihood preference" in report
    assert "Win rate" not in report


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--judge-url", "http://localhost:1/v1"], "both --judge-url and --judge-model"),
        (["--rates", "fast"], "--rates"),
    ],
)
def test_invalid_usage_of_bench_instruct_is_one_sentence(
    run: Any, data: Path, tiny_model_folder: Path, changed: list[str], says: str
) -> None:
    asked = ["bench", "instruct", "--model", str(tiny_model_folder), "--data-dir", str(data)]
    result = run(*asked, "--output", str(data / "o"), *changed)
    assert result.returncode != 0
    assert says in result.stderr
    assert not (data / "o").exists()
