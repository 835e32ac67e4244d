"""Every command that a page names really runs, scaled down: `make nightly`."""

import json
import multiprocessing
import os
import runpy
import shlex
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import MPNetConfig, MPNetForMaskedLM

from roselora.models.demo_model import demo_model_is_ready
from roselora.training.config_file import read_settings
from tests.attacks.attacking import Ended, roselora
from tests.bench.metrics import test_judge
from tests.bench.metrics.test_judge import server
from tests.documented.commands import ROOT, SCRIPTS, Command, documented
from tests.documented.data_folder import PLACES, written
from tests.documented.parsing import can_be_run
from tests.documented.scaling import scaled
from tests.training.runs import interrupted

__all__ = ["server"]

FORKS = multiprocessing.get_context("forkserver")

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1200)]

NOTEBOOKS = "docs/tutorials/"
"""Their commands need what the cells before them make: test_tutorials.py runs both, with every commit."""

DEMO = "demo"
SCRIPTS_ON_THE_DEMO = (
    "edit_speed", "finetuning", "hardware_needs", "merged_agreement", "gate_study", "ten_edits", "training_overhead"
)  # fmt: skip


def units() -> list[Any]:
    """Commands that follow one another in a code block belong together; of others, each is run once.

    A script is run once, as it is named with the most options, and the scripts that no page names are run too.
    """
    whole = [command for command in documented() if can_be_run(command) and not command.place.startswith(NOTEBOOKS)]
    scripts: dict[str, Command] = {path.relative_to(ROOT).as_posix(): named(path) for path in SCRIPTS}
    for command in whole:
        if command.words[1] in scripts and len(command.words) > len(scripts[command.words[1]].words):
            scripts[command.words[1]] = command
    verbs = [command for command in whole if command.words[1] not in scripts]
    found, seen = [[command] for command in scripts.values()], set()
    for block, group in groupby(verbs, key=lambda command: command.block):
        for commands in [list(group)] if block is not None else [[command] for command in group]:
            if not {scaled(command.words) for command in commands} <= seen:
                seen.update(scaled(command.words) for command in commands)
                found.append(commands)
    return [pytest.param(commands, id=str(commands[0])[:90]) for commands in found]


def named(path: Path) -> Command:
    return Command(path.name, ("python", path.relative_to(ROOT).as_posix()))


def left_out(words: tuple[str, ...]) -> str | None:
    """Why a command is not run here."""
    if words[0] == "make":
        return "make: its targets are what runs this"
    if "conformance" in " ".join(words):
        return "PEFT's own tests take minutes: make conformance runs them"
    if {"benchmarks.gpu", "benchmarks/gpu.py"} & set(words):
        return "needs an NVIDIA GPU, and a test of every commit makes its dry run"
    if "metamathqa" in " ".join(words):
        return "needs a checkout of PEFT"
    if "--multi_gpu" in words or "--use_fsdp" in words:
        return "needs several GPUs"
    if (
        any(word in words for word in ("demo", "demo.py", "benchmarks/training_overhead.py"))
        and not demo_model_is_ready()
    ):
        return "the demo model has not been fetched yet: run `make demo` once"
    return None


@pytest.fixture
def place(
    tmp_path: Path, tiny_model_folder: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, request: Any
) -> Path:
    """A folder with all that the commands name."""
    monkeypatch.setenv("ROSELORA_DATA_DIR", str(written(tmp_path / "data")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(test_judge, "prefers_ours", lambda prompt: "A")  # the judge's own tests know what is ours
    shutil.copytree(tiny_model_folder, tmp_path / "tiny")
    encoder = MPNetConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    MPNetForMaskedLM(encoder).save_pretrained(tmp_path / "encoder")
    tiny_tokenizer.save_pretrained(tmp_path / "encoder")
    (tmp_path / "benchmarks" / "results" / "editing").mkdir(parents=True)
    (tmp_path / "settings.json").write_text((ROOT / "benchmarks/results/editing_tuning.json").read_text())
    (tmp_path / "covariance.txt").write_text(
        "\n\n".join(f"{name} lies by the sea, at {city}." for name, city, _ in PLACES)
    )
    (tmp_path / "facts.jsonl").write_text('{"prompt": "The symbol of gold is", "target": "Go"}\n')
    (tmp_path / "train.py").write_text("import roselora.adapter.config, torch\n")
    rows = [{"prompt": f"{number} and 1 make", "completion": f" {number + 1}"} for number in range(8)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_config(tmp_path, roselora("train", "--init", folder=tmp_path).out)
    return tmp_path


def write_config(folder: Path, text: str) -> None:
    """The config file that `roselora train --init` prints, for a model and a length that take a moment."""
    values = yaml.safe_load(text)
    values["model"] = "tiny"
    values["training"] |= {"max_steps": 4, "batch_size": 2}
    values["adapter"] |= {"density": 0.5}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def interrupt(folder: Path) -> None:
    """A run in `output` that was stopped after its second step."""

    here = Path.cwd()
    os.chdir(folder)
    try:
        interrupted(read_settings(Path("config.yaml"), ["training.save_steps=1"]), step=2)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("commands", units())
def test_what_a_page_names_runs(commands: list[Command], place: Path, server: Any) -> None:
    reasons = []
    for command in commands:
        words = scaled(command.words)
        if (reason := left_out(words)) is not None:
            reasons.append(reason)
            continue
        words = tuple(word.replace("{judge}", server[0]) for word in words)
        if "{id}" in words:
            made = json.loads(roselora("log", "--json", folder=place).out)
            words = tuple(made[0]["id"] if word == "{id}" else word for word in words)
        if "--resume" in words:
            interrupt(place)
        ended = started(words, place)
        assert ended.code == 0, f"{shlex.join(words)} ended with {ended.code}:\n{ended.err[-3000:]}"
        if words[1:] == ("train", "--init"):
            write_config(place, ended.out)
    if len(reasons) == len(commands):
        pytest.skip("; ".join(sorted({*reasons})))


def started(words: tuple[str, ...], folder: Path) -> Ended:
    """Run a command in a folder: a verb in this process, a script in a fork, a launcher as it is."""
    if words[0] == "roselora":
        return roselora(*words[1:], folder=folder)
    if words[0] == "python":
        printed = {1: folder / "out.txt", 2: folder / "err.txt"}
        script, arguments = (
            (words[1], words[2:]) if words[1] != "-m" else (f"{words[2].replace('.', '/')}.py", words[3:])
        )
        process = FORKS.Process(target=_become_script, args=(str(ROOT / script), arguments, folder, printed))
        process.start()
        process.join()
        return Ended(process.exitcode or 0, *(path.read_text() for path in printed.values()))
    module, rest = ("torch.distributed.run", 1) if words[0] == "torchrun" else ("accelerate.commands.launch", 2)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "ACCELERATE_USE_CPU": "true"}
    command = (sys.executable, "-m", module, *words[rest:])
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return Ended(done.returncode, done.stdout, done.stderr)


def _become_script(path: str, arguments: tuple[str, ...], folder: Path, printed: dict[int, Path]) -> None:
    """What a process of its own would do, but for importing torch, which it has."""
    os.chdir(folder)
    for descriptor, place in printed.items():
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = [path, *arguments]
    sys.path[:0] = [str(Path(path).parent), str(ROOT)]
    torch.set_num_threads(1)
    runpy.run_path(path, run_name="__main__")
