"""One command of the command line, run in a fork of a process that has imported what commands import.

A process of its own for each command spends some seconds on importing torch and transformers; a fork has them at once,
and is as much a process of its own: its files, folder, environment and exit code are its own.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Imported once, and never run in the parent of the forks: a fork of a process in which torch has threads would hang.
multiprocessing.set_forkserver_preload(
    ["roselora.cli.main", "torch", "transformers", "peft", "trl", "datasets", "roselora", "roselora.cli.train"]
)
_FORKS = multiprocessing.get_context("forkserver")


def run_command(
    arguments: tuple[str, ...], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """What ``roselora`` prints and exits with, started in a folder."""
    with tempfile.TemporaryDirectory() as place:
        printed = {1: Path(place, "out"), 2: Path(place, "err")}
        process = _FORKS.Process(target=_become, args=(arguments, folder, environment, printed))
        process.start()
        process.join()
        out, err = (path.read_text() for path in printed.values())
    return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def _become(arguments: tuple[str, ...], folder: Path, environment: dict[str, str], printed: dict[int, Path]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in printed.items():
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.stdin = open(os.devnull)  # noqa: SIM115  # closed with the process
    sys.argv = ["roselora", *arguments]
    import torch

    from roselora.cli.main import main

    torch.set_num_threads(1)
    main()
