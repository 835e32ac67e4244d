"""Help, errors and exit codes, in processes of their own."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from roselora.cli import doctor, main
from roselora.cli.installed_extras import extras

Run = Callable[..., subprocess.CompletedProcess[str]]
EDIT = ["--prompt", "The capital of France is", "--target", "Lyon"]
VERBS = [
    *("demo", "train", "edit", "log", "show", "note", "diff", "undo", "redo", "check", "export", "verify", "doctor"),
    "widen",
]


def test_help_imports_no_heavy_library() -> None:
    program = (
        "import sys\n"
        "from roselora.cli.main import main\n"
        f"for verb in {[[], *([verb] for verb in VERBS)]!r}:\n"
        "    print('help of', verb)\n"
        "    sys.argv = ['roselora', *verb, '--help']\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert not end.code, verb\n"
        "    assert not {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules), verb\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    texts = shown.stdout.split("help of ")[1:]
    assert len(texts) == 1 + len(VERBS)
    assert all("Usage" in text for text in texts)


LOADING = [
    *(["demo"], ["train"], ["edit"], ["check"], ["repair"], ["export"]),
    *(["bench", name] for name in ("edit", "commonsense", "arithmetic", "instruct", "glue", "datasize", "forgetting")),
]


@pytest.mark.parametrize("verb", LOADING, ids=" ".join)
def test_every_verb_that_loads_a_model_takes_a_device_and_a_dtype(verb: list[str]) -> None:
    command: Any = get_command(main.app)
    for name in verb:
        command = command.commands[name]
    options = {option: parameter for parameter in command.params for option in parameter.opts}
    assert options["--device"].help.startswith("auto (CUDA, then MPS, then the CPU)")
    assert options["--dtype"].help.startswith("Of the model's weights; auto uses the checkpoint's")


def test_version(run: Run) -> None:
    assert run("--version").stdout.startswith("roselora 0.")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["edit", "nowhere/at all", *EDIT], 1, "nowhere/at all"),
        (["edit", "demo", "--prompt", "x", "--target", "two\nlines"], 2, "one line"),
        (["edit", "demo", *EDIT, "--keep", EDIT[1]], 2, "edited and kept"),
        (["edit", "demo", *EDIT, "--subject", "Germany"], 2, "'Germany' is not in the prompt"),
        (["edit", "demo", *EDIT, "--method", "rose", "--density", "1.5"], 2, "density"),
        (["edit", "demo", *EDIT, "--method", "rose", "--max-steps", "3"], 2, "max_steps"),
        (["edit", "demo", *EDIT, "--rank", "4"], 2, "--method rose"),
        (["edit", "demo", *EDIT, "--seed", "3"], 2, "--seed is a setting of RoseLoRA"),
        (["edit", "demo", "--prompt", "x"], 2, "--target"),
        (["edit", "demo", *EDIT, "--device", "cuda:99"], 2, "The device cuda:99 is not here: name auto"),
        (["edti"], 2, "edit"),
        (["log"], 1, "no edit store in edits"),
        (["undo", "abc", "--store", "nowhere"], 1, "no edit store in nowhere"),
        (["diff", "demo"], 2, "second one"),
        (["diff", "demo", "abc"], 2, "of different kinds"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_no_traceback(
    run: Run, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(run: Run) -> None:
    assert "Traceback" in run("--debug", "log").stderr


def test_an_interrupt_is_one_line_and_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted = typer.Typer()

    @interrupted.command()
    def verb() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "app", interrupted)
    monkeypatch.setattr(sys, "argv", ["roselora"])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 130
    assert "interrupted" in capsys.readouterr().err


def test_doctor_tells_versions_caches_and_that_there_is_no_store(run: Run) -> None:
    done = run("doctor", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["versions"]["torch"]
    assert report["store"]["state"] == "there is none"
    assert report["extras"].keys() == {"train", "bench", "ui", "llama-cpp", "mlx"}
    assert report["extras"]["train"] == "ready (roselora train)"
    assert "float32" in report["machine"]["dtypes of cpu"]


def test_doctor_names_what_an_extra_lacks_and_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def without_trl(name: str) -> str:
        if name == "trl":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", without_trl)
    found = extras()
    assert found["train"] == "without trl; pip install 'roselora[train]' (roselora train)"
    assert found["ui"].startswith("ready")


def test_doctor_says_what_each_cache_takes_and_what_comes_of_deleting_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ordinary").mkdir()
    (tmp_path / "ordinary" / "made.safetensors").write_bytes(bytes(1_500_000))
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path))
    caches = doctor._caches()
    assert (caches["ordinary"]["folder"], caches["ordinary"]["megabytes"]) == (str(tmp_path / "ordinary"), 1.5)
    assert caches["models"]["megabytes"] == 0


@pytest.mark.demo
def test_an_edit_of_the_demo_model_through_the_command_line(demo: Any, run: Run) -> None:
    done = run("edit", "demo", *EDIT, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)["answers"][0]
    assert (answer["before"], answer["after"]) == ("Paris.", "Lyon")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(28, "No space left on device", "edits/x"),
            "edits/x cannot be read or written (No space left on device)",
        ),
        (OSError(36, "File name too long"), "the operating system reports: File name too long."),
        (ConnectionError("the hub is down\nand more"), "the operating system reports: the hub is down."),
    ],
)
def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, message: str
) -> None:
    def refused() -> None:
        raise error

    monkeypatch.setattr(main, "app", refused)
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_with_json_an_error_is_a_json_document_on_standard_output(run: Run) -> None:
    refused = run("log", "--store", "nowhere", "--json")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert json.loads(refused.stdout) == {"error": line.removeprefix("Error: "), "type": "StoreError", "exit_code": 1}
    for unusable in (("edit", "demo", "--json"), ("edit", "--json")):  # refused by us, and by typer
        refused = run(*unusable)
        told = json.loads(refused.stdout)
        assert (refused.returncode, told["type"], told["exit_code"]) == (2, "ConfigError", 2)


def test_help_names_first_what_most_people_do(run: Run) -> None:
    shown = run("--help").stdout
    places = [shown.index(f"\u2502 {name} ") for name in ("edit", "train", "bench", "log", "demo")]
    assert places == sorted(places)
