"""The process that asks one program: ``python child.py MODULE PACKAGE REPLY``, with the task as a line on stdin.

What programs print goes where it likes; the reply is a file, which appears when it is whole. This is run as a file, not
imported from roselora, which another environment does not have. It ends when its parent does, which holds stdin open.
"""

import importlib.metadata
import json
import os
import runpy
import signal
import sys
import threading
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Ask, and write the program's version and its answers as JSON, or why there are none."""
    module, package, reply = sys.argv[1:]
    # A script's folder comes first, and what is in this one must not stand for a library.
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != FOLDER]
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        found = runpy.run_path(str(FOLDER / f"{module}.py"))["answers"](**task)
        distributions = importlib.metadata.packages_distributions().get(package)
        version = importlib.metadata.version(distributions[0]) if distributions else ""
        said = {"version": version, "answers": found}
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    part = Path(f"{reply}.part")
    part.write_text(json.dumps(said), encoding="utf-8")
    os.replace(part, reply)


def _end_with_parent() -> None:
    """Kill this process and what it has started, once nobody waits for its reply."""
    sys.stdin.read()
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
    # Some programs leave threads or processes that never end.
    sys.stdout.flush()
    os._exit(0)
