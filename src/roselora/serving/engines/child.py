"""The process that asks one program: ``python child.py MODULE PACKAGE REPLY``, with the task on stdin.

What programs print goes where it likes; the reply is a file, which is only there if the program has answered. This is
run as a file, not imported from roselora, which another environment does not have.
"""

import importlib.metadata
import json
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Ask, and write the program's version and its answers as JSON."""
    module, package, reply = sys.argv[1:]
    asked = runpy.run_path(str(Path(__file__).with_name(f"{module}.py")))["answers"]
    found = asked(**json.load(sys.stdin))
    distributions = importlib.metadata.packages_distributions().get(package)
    version = importlib.metadata.version(distributions[0]) if distributions else ""
    Path(reply).write_text(json.dumps({"version": version, "answers": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
