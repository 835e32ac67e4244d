"""Asks a program in a process of its own, whose crash or memory is then no concern of ours."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from roselora.errors import ModelError, shortened
from roselora.serving.engines import Engine, Export, child

TAIL = 4096
"""How many bytes of what a program printed last are looked at, if it has not answered."""


@dataclass(frozen=True)
class Reply:
    """What a program answers.

    Attributes:
        version: of the program; empty if it is not known.
        answers: one for each prompt, as tokens or text.
    """

    version: str
    answers: list[list[int] | str]


def ask(engine: Engine, export: Export, prompts: Sequence[Sequence[int]], tokens: int) -> Reply:
    """What a program that is installed answers, as `engines` describes.

    Raises:
        ModelError: its process cannot start, or ended without an answer; with the reason, or what it printed last.
    """
    task = json.dumps({**asdict(export), "prompts": [list(prompt) for prompt in prompts], "tokens": tokens})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        reply, printed = Path(folder, "reply.json"), Path(folder, "stderr")
        command = [engine.python or sys.executable, child.__file__, engine.module, engine.package, str(reply)]
        with printed.open("wb") as stderr:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    encoding="utf-8",
                    env=_environment(engine, folder),
                    start_new_session=True,  # so that whatever it starts can be ended with it
                )
            except OSError as error:
                raise ModelError(f"{command[0]} cannot be run ({error.strerror}).") from error
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(f"{task}\n")
                process.stdin.flush()
            code = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        if not reply.is_file():
            raise ModelError(f"{_ending(code)}{_last_line(printed)}.")
        return _read(reply, len(prompts))


def _environment(engine: Engine, folder: str) -> dict[str, str]:
    """The variables of the process; what it writes into the folder of temporary files is deleted with its reply.

    Neither the working folder nor, of another environment, ours may stand for its libraries.
    """
    found = {**os.environ, "PYTHONSAFEPATH": "1", "TMPDIR": folder}
    own = [path for path in found.pop("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(path)]
    if engine.python is not None:
        found.pop("PYTHONHOME", None)
    elif own:
        found["PYTHONPATH"] = os.pathsep.join(own)
    return found


def _read(reply: Path, count: int) -> Reply:
    """A reply that is whole, from a program that may have written anything."""
    try:
        said = json.loads(reply.read_bytes())
        if "error" in said:
            raise ModelError(f"{shortened(str(said['error'])).rstrip('.')}.")
        found = Reply(str(said["version"]), [each if isinstance(each, str) else list(each) for each in said["answers"]])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError("Its reply cannot be read.") from error
    if len(found.answers) != count:
        raise ModelError(f"It gave {len(found.answers)} answers to {count} prompts.")
    return found


def _ending(code: int) -> str:
    return f"It was ended by signal {-code}" if code < 0 else f"It ended with code {code} and without an answer"


def _last_line(printed: Path) -> str:
    with printed.open("rb") as file:
        file.seek(max(0, printed.stat().st_size - TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    return f"; its last line is {shortened(said[-1]).rstrip('.')!r}" if said else ""
