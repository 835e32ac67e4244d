"""Asks a program in a process of its own, whose crash or memory is then no concern of ours."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from roselora.errors import ModelError, shortened
from roselora.serving.engines import Engine, Export


def ask(engine: Engine, export: Export, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """What a program that is installed answers, as `engines` describes.

    Raises:
        ModelError: its process ended without an answer; with the last line that it printed.
    """
    task = json.dumps({"export": asdict(export), "prompts": [list(prompt) for prompt in prompts], "tokens": tokens})
    with tempfile.TemporaryDirectory() as folder:
        reply = Path(folder, "reply.json")
        # -P: what lies in the working folder must not stand for a library of the same name.
        command = [sys.executable, "-P", "-m", "roselora.serving.engines.child", engine.module, str(reply)]
        done = subprocess.run(command, input=task, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if not reply.is_file():
            said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
            raise ModelError(f"{shortened(said[-1].strip())}.")
        found: list[list[int] | str] = json.loads(reply.read_text(encoding="utf-8"))
    return found
