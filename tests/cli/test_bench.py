"""``roselora bench edit`` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from roselora.bench.records.failed_run import FailedRun
from roselora.bench.running.bench_result import BenchResult
from roselora.cli.bench_display import show_result

Run = Callable[..., subprocess.CompletedProcess[str]]

RECORDS = [
    {
        "subject": country,
        "prompt": f"The capital of {country} is",
        "target_new": city,
        "rephrase_prompt": f"{country} has its capital in",
        "portability": {"Reasoning": [{"prompt": f"{country} is ruled from", "ground_truth": [[city, city.upper()]]}]},
        "locality": {"Relation_Specificity": [{"prompt": "The symbol of gold is", "ground_truth": "Au"}]},
    }
    for country, city in [("France", "Rome"), ("Spain", "Berlin"), ("Italy", "Paris"), ("Italy", "Madrid")]
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "knowledge_editing"
    folder.mkdir(parents=True)
    (folder / "zsre_test.json").write_text(json.dumps(RECORDS))
    stream = [
        {"subject": r["subject"], "src": r["prompt"], "alt": r["target_new"], "rephrase": r["rephrase_prompt"],
         "loc": "nq question: what is the symbol of iron", "loc_ans": "Fe"}
        for r in RECORDS[:3]
    ]  # fmt: skip
    (folder / "locft_zsre_3k.json").write_text(json.dumps(stream))
    return folder.parent


TAKES_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""Tests that a shell runs in the background inherit its ignoring of SIGINT, and so would what they start."""


def edit(run: Run, world: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run("bench", "edit", "--model", str(world), "--data-dir", "data", "--output", "out", *more)


def methods_of(folder: Path) -> list[str]:
    return [json.loads(line)["method"] for line in (folder / "records.jsonl").read_text().splitlines()]


def test_single_edits_give_a_report_and_more_methods_and_cases_join_the_same_folder(
    run: Run, world_folder: Path, data: Path, tmp_path: Path
) -> None:
    first = edit(run, world_folder, "--methods", "no-edit,ft-m", "--n", "2", "--set", "ft-m.learning_rate=5e-3")
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    assert methods_of(tmp_path / "out") == ["no-edit", "ft-m"] * 2
    head = json.loads((tmp_path / "out" / "head.json").read_text())
    assert head["methods"]["ft-m"]["learning_rate"] == 5e-3
    assert head["skipped"] == ["zsre/3"], "the second request for Italy is reported"
    assert head["n"] == 2
    assert "--methods no-edit,ft-m" in head["parts"][0]["command"]
    for name in ("report.md", "report.json", "scores.png", "costs.png"):
        assert (tmp_path / "out" / name).is_file()
    assert "ft-m" in first.stdout
    assert "wrote out/report.md" in first.stdout
    assert "min left" in first.stderr or "no-edit, zsre/" in first.stderr, "a sign of life without a terminal"

    more = edit(run, world_folder, "--methods", "rose,ft-m", "--n", "3", "--set", "ft-m.learning_rate=5e-3", "--json")
    assert more.returncode == 0, more.stderr
    assert sorted(methods_of(tmp_path / "out")) == sorted(["no-edit", "ft-m"] * 2 + ["rose"] * 3 + ["ft-m"])
    assert json.loads(more.stdout)["files"]

    other = edit(run, world_folder, "--methods", "ft-m", "--n", "3")
    assert other.returncode == 2
    assert "other settings; name another folder" in other.stderr


def test_a_sequence_that_was_killed_goes_on_with_the_same_command(
    run: Run, world_folder: Path, data: Path, tmp_path: Path
) -> None:
    command = (
        "bench", "edit", "--model", str(world_folder), "--data-dir", "data", "--output", "out", "--dataset",
        "zsre_stream", "--mode", "sequential", "--methods", "ft-m,lora", "--set", "lora.epochs=100",
        "--set", "lora.stop_loss=0",
    )  # fmt: skip
    every_step = "from roselora.cli import console, main; console.PLAIN_SECONDS = 0; main.main()"
    started = subprocess.Popen(
        [sys.executable, "-c", TAKES_INTERRUPTS + every_step, *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert started.stderr is not None
    assert any("lora, edit 2/3" in line for line in started.stderr), "the interrupt comes between its edits or in one"
    started.send_signal(signal.SIGINT)
    _, complaint = started.communicate(timeout=60)
    assert started.returncode == 130, complaint
    assert "the same command resumes it" in complaint
    assert methods_of(tmp_path / "out") == ["ft-m"] * 3
    assert (tmp_path / "out" / "report.md").is_file(), "of what there is"
    again = run(*command[:-4])
    assert again.returncode == 2, "lora was begun with other settings"
    again = run(*command, "--set", "lora.epochs=100")
    assert again.returncode == 0, again.stderr
    assert methods_of(tmp_path / "out") == ["ft-m"] * 3 + ["lora"] * 3
    assert (tmp_path / "out" / "reliability_by_age.png").is_file()


def test_a_folder_whose_name_is_no_text_takes_a_run_and_its_resumption(
    run: Run, world_folder: Path, data: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        done = edit(run, world_folder, "--methods", "no-edit", "--n", "1", "--output", "out\udcff")
        assert done.returncode == 0, done.stderr
    (part,) = json.loads((tmp_path / "out\udcff" / "head.json").read_text())["parts"]
    assert "out\\udcff" in part["command"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--methods", "rosa"), "There is no method 'rosa'"),
        (("--n", "9"), "between 1 and 3"),
        (("--n", "2", "--skip", "2"), "between 1 and 1, the cases of"),
        (("--skip", "3"), "skip must be below 3"),
    ],
)
def test_bad_input_gets_one_sentence_and_writes_nothing(
    run: Run, world_folder: Path, data: Path, tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    done = edit(run, world_folder, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_list_and_dry_run_change_nothing(run: Run, world_folder: Path, data: Path, tmp_path: Path) -> None:
    listed = run("bench", "edit", "--list")
    assert "zsre_stream" in listed.stdout
    assert "alphaedit: Fang et al." in listed.stdout
    planned = edit(run, world_folder, "--dry-run", "--methods", "no-edit,grace")
    assert planned.returncode == 0, planned.stderr
    assert "3 edits of zsre, single, asked bare, into out" in planned.stdout
    assert "grace: 3 to make; depth" in planned.stdout
    unwritable = edit(run, world_folder, "--methods", "no-edit", "--output", "data/knowledge_editing/zsre_test.json")
    assert unwritable.returncode == 2
    assert "is no folder that you may write to" in unwritable.stderr
    assert not (tmp_path / "out").exists()


def test_the_report_over_parts_of_another_benchmark_is_not_replaced_and_ones_own_facts_need_no_data_folder(
    run: Run, world_folder: Path, tmp_path: Path
) -> None:
    fact = {"prompt": "The capital of France is", "target": "Rome", "keep": ["The symbol of gold is"]}
    (tmp_path / "facts.jsonl").write_text(json.dumps(fact))
    (tmp_path / "out" / "rte").mkdir(parents=True)
    for name in ("out/report.json", "out/rte/head.json"):
        (tmp_path / name).write_text("{}")
    command = ("bench", "edit", "--model", str(world_folder), "--dataset", str(tmp_path / "facts.jsonl"), "--dry-run")
    refused = run(*command, "--methods", "no-edit", "--output", "out")
    assert refused.returncode == 2
    assert "holds the parts of another benchmark's run" in refused.stderr
    planned = run(*command, "--methods", "no-edit", "--output", "new", "--json")
    assert (planned.returncode, json.loads(planned.stdout)["dataset"]) == (0, "facts.jsonl"), planned.stderr


def test_cases_of_an_earlier_run_are_not_drawn_and_a_form_that_the_model_lacks_is_refused(
    run: Run, world_folder: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "earlier.jsonl").write_text('{"case": "zsre_stream/1", "method": "rose"}\n')  # Spain, in another set
    drawn = edit(run, world_folder, "--methods", "no-edit", "--without", "earlier.jsonl")
    assert drawn.returncode == 0, drawn.stderr
    lines = (tmp_path / "out" / "records.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["case"] for line in lines) == ["zsre/0", "zsre/2"]
    head = json.loads((tmp_path / "out" / "head.json").read_text())
    assert head["without"] == ["zsre/1"]
    assert head["forms"] == ["bare"], "the model's template marks no turns"
    assert "without 1 that earlier runs had asked" in (tmp_path / "out" / "report.md").read_text()
    other = edit(run, world_folder, "--methods", "no-edit")
    assert other.returncode == 2
    assert "another choice of cases that earlier runs had asked" in other.stderr
    chat = edit(run, world_folder, "--methods", "no-edit", "--form", "chat", "--output", "chat")
    assert chat.returncode == 2
    assert "cannot be asked in chat" in chat.stderr


def test_what_could_not_be_run_is_one_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    failed = FailedRun("lora", "zsre/3", "OutOfMemoryError: CUDA out of memory.")
    with pytest.raises(typer.Exit) as ended:
        show_result(BenchResult([Path("out/report.md")], [failed]), json=False)
    assert ended.value.exit_code == 1
    said = capsys.readouterr()
    assert said.out == "wrote out/report.md\n"
    assert "lora, zsre/3, failed (OutOfMemoryError: CUDA out of memory.); the same" in said.err
    show_result(BenchResult([], []), json=True)
    assert json.loads(capsys.readouterr().out) == {"files": [], "failed": []}
