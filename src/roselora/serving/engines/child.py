"""The process that asks one program: ``python -m roselora.serving.engines.child MODULE REPLY``, with the task on stdin.

What programs print goes where it likes; the reply is a file, which is only there if the program has answered.
"""

import importlib
import json
import sys
from pathlib import Path

from roselora.serving.engines import Export


def main() -> None:
    """Ask, and write the answers as JSON."""
    module, reply = sys.argv[1:]
    task = json.load(sys.stdin)
    engine = importlib.import_module(f"roselora.serving.engines.{module}")
    found = engine.answers(Export(**task["export"]), task["prompts"], task["tokens"])
    Path(reply).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
