"""RoseLoRA in PEFT's comparison of methods on MetaMathQA and GSM8K, by the comparison's own program.

    python -m benchmarks.metamathqa.run PEFT/method_comparison/MetaMathQA [EXPERIMENT] [-v] [--clean]

The experiment, a folder of `experiments/rose`, is copied into the comparison and its `run.py` is run on it as it is.
One thing is added: where a config's folder holds `roselora_config.json`, PEFT reads a RoseLoraConfig. The result,
which that program writes into its own folders, then gets the fields of that file in its `peft_config`.
"""

import argparse
import json
import os
import runpy
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import peft
from peft import PeftConfig

from roselora import RoseLoraConfig
from roselora.adapter.sparsity_config import SIDECAR

EXPERIMENTS = Path(__file__).parent / "experiments" / "rose"
DEFAULT = "llama-3.2-3B-rank32-target-mlp"


class SparseAwareConfig(PeftConfig):
    """What the comparison's program finds under the name of PeftConfig."""

    @classmethod
    def from_pretrained(cls, path: str, *args: Any, **kwargs: Any) -> Any:
        """A RoseLoraConfig if the folder describes one, else what PEFT makes of it."""
        reader = RoseLoraConfig if Path(path, SIDECAR).is_file() else PeftConfig
        return reader.from_pretrained(path, *args, **kwargs)


def run(comparison: Path, experiment: str, options: Sequence[str]) -> Path:
    """Copy the experiment into the comparison's folder, run its program there, and return the result that it wrote."""
    place = Path("experiments", "rose", experiment)
    shutil.copytree(EXPERIMENTS / experiment, comparison / place, dirs_exist_ok=True)
    before, start = Path.cwd(), time.time()
    os.chdir(comparison)
    try:
        with (
            patch.object(peft, "PeftConfig", SparseAwareConfig),
            patch.object(sys, "argv", ["run.py", *options, str(place)]),
            patch.object(sys, "path", [str(comparison), *sys.path]),
        ):
            runpy.run_path("run.py", run_name="__main__")
    finally:
        os.chdir(before)
    (result,) = (path for path in comparison.glob("*results/rose*.json") if path.stat().st_mtime >= start)
    written = json.loads(result.read_text())
    written["run_info"]["peft_config"] |= json.loads((comparison / place / SIDECAR).read_text())
    result.write_text(json.dumps(written, indent=2))
    return result


def main() -> None:
    """Check what is given, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(folder.name for folder in EXPERIMENTS.iterdir())
    parser.add_argument("comparison", type=Path, help="method_comparison/MetaMathQA of a checkout of PEFT")
    parser.add_argument("experiment", nargs="?", default=DEFAULT, choices=names)
    parser.add_argument("-v", "--verbose", action="store_true", help="as the comparison's own option")
    parser.add_argument("--clean", action="store_true", help="likewise: delete the adapter after the run")
    given = parser.parse_args()
    if not (given.comparison / "run.py").is_file():
        parser.error(f"{given.comparison} holds no run.py: name method_comparison/MetaMathQA of a checkout of PEFT.")
    options = [option for option, on in (("-v", given.verbose), ("--clean", given.clean)) if on]
    print(run(given.comparison.resolve(), given.experiment, options))


if __name__ == "__main__":
    main()
