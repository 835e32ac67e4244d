"""Asks a program in a process of its own, whose crash or memory is then no concern of ours."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from roselora.errors import ModelError, shortened
from roselora.serving.engines import Engine, Export, child


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
        ModelError: its process cannot start, or ended without an answer; with the last line that it printed.
    """
    task = json.dumps({**asdict(export), "prompts": [list(prompt) for prompt in prompts], "tokens": tokens})
    # What lies in the working folder must not stand for a library of the same name.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryDirectory() as folder:
        reply = Path(folder, "reply.json")
        command = [engine.python or sys.executable, child.__file__, engine.module, engine.package, str(reply)]
        try:
            done = subprocess.run(
                command,
                input=task,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                env=environment,
            )
        except OSError as error:
            raise ModelError(f"{engine.python} cannot be run ({error.strerror}).") from error
        if not reply.is_file():
            said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
            raise ModelError(f"{shortened(said[-1].strip())}.")
        return Reply(**json.loads(reply.read_text(encoding="utf-8")))
