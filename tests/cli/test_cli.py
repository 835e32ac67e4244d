"""The command line, run as a user runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from roselora.models.generation import greedy_answers

Run = Callable[..., subprocess.CompletedProcess[str]]
EDIT = ["--prompt", "The capital of France is", "--target", "Lyon"]
TINY = ["--density", "0.5", "--learning-rate", "0.02"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from roselora.cli.main import main; main()", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **environment},
        )

    return call


@pytest.fixture
def world_folder(world_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "world"
    world_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("verb", [[], ["edit"], ["demo"]])
def test_help_imports_no_heavy_library(verb: list[str]) -> None:
    program = (
        "import sys\n"
        "from roselora.cli.main import main\n"
        f"sys.argv = ['roselora', *{verb!r}, '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "Usage" in shown.stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout.startswith("roselora 0.")


def test_an_edit_is_made_shown_as_json_and_saved_for_any_program(run: Run, world_folder: Path, tmp_path: Path) -> None:
    kept = "The opposite of hot is"
    done = run("edit", str(world_folder), *EDIT, *TINY, "--keep", kept, "--json", "--output", "edited")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [answer["kind"] for answer in result["answers"]] == ["prompt", "keep"]
    assert (result["answers"][0]["before"], result["answers"][0]["after"]) == ("Paris.", "Lyon")
    assert result["sparsity"] >= result["sparsity_bound"]

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "edited")
    assert greedy_answers(model, tokenizer, [EDIT[1]], max_new_tokens=16) == ["Lyon"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edited", "world"]


def test_an_edit_is_shown_as_a_table_within_80_columns(run: Run, world_folder: Path) -> None:
    done = run("edit", str(world_folder), *EDIT, *TINY, "--rephrase", "France has its capital in")
    assert done.returncode == 0, done.stderr
    assert "Proposition 1" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "--output" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["edit", "nowhere/at all", *EDIT], 1, "nowhere/at all"),
        (["edit", "demo", "--prompt", "x", "--target", "two\nlines"], 2, "one line"),
        (["edit", "demo", *EDIT, "--keep", EDIT[1]], 2, "edited and kept"),
        (["edit", "demo", *EDIT, "--density", "1.5"], 2, "density"),
        (["edit", "demo", *EDIT, "--max-steps", "3"], 2, "max_steps"),
        (["edit", "demo", *EDIT, "--output", "."], 2, "--output"),
        (["edit", "demo", "--prompt", "x"], 2, "--target"),
        (["edti"], 2, "edit"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_no_traceback(
    run: Run, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "something").write_text("so that . is not empty")
    done = run(*arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_edit_that_fails_exits_with_1_and_writes_nothing(run: Run, world_folder: Path, tmp_path: Path) -> None:
    done = run("edit", str(world_folder), *EDIT, "--learning-rate", "1e-9", "--max-steps", "15", "--output", "edited")
    assert done.returncode == 1
    assert "did not learn" in done.stderr
    assert not (tmp_path / "edited").exists()


def test_debug_shows_the_traceback(run: Run) -> None:
    assert "Traceback" in run("--debug", "edit", "nowhere/at all", *EDIT).stderr


@pytest.mark.demo
def test_an_edit_of_the_demo_model_through_the_command_line(demo: Any, run: Run) -> None:
    done = run("edit", "demo", *EDIT, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)["answers"][0]
    assert (answer["before"], answer["after"]) == ("Paris.", "Lyon")
