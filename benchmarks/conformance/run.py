"""PEFT's own tests with RoseLoraConfig in the place of LoraConfig, beside the same tests with LoraConfig.

    python -m benchmarks.conformance.run

Exit status 1 if ours fails a test that plain LoRA passes, or if nothing was pruned. See docs/conformance.md.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.conformance.battery import DIFFERENCES, FILES, LEFT_OUT_FILES
from benchmarks.conformance.compare import Comparison, compare, failures, table
from benchmarks.conformance.hub import make_hub_cache
from benchmarks.conformance.source import fetch_peft_tests
from roselora.models.pypi_models import models_folder

REPOSITORY = Path(__file__).parents[2]
RESULT = REPOSITORY / "benchmarks" / "results" / "conformance.json"
CACHE = models_folder().parent / "conformance"
COUNTS = ("configs", "steps", "pruning_steps", "factors_pruned", "factors_left_dense")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where PEFT's tests are kept, outside any checkout")
    parser.add_argument("--result", type=Path, default=RESULT, help="the JSON file to write")
    options = parser.parse_args()
    peft_folder = fetch_peft_tests(options.cache)
    _require_whole_list(peft_folder)
    hub = options.cache / "hub"
    shutil.rmtree(hub, ignore_errors=True)
    make_hub_cache(hub)
    began = time.monotonic()
    lora, roselora = (run(method, peft_folder, options.cache) for method in ("lora", "roselora"))
    result = compare(lora, roselora, DIFFERENCES)
    pruning = {count: sum(test.get(count, 0) for test in roselora.values()) for count in COUNTS}
    _write(options.result, result, pruning, time.monotonic() - began)
    _report(result, pruning)
    sentences = failures(result, pruning, (f"tests/{name}" for name in FILES))
    print("\n".join(sentences) or "No failure that plain LoRA does not have too.")
    return 1 if sentences else 0


def run(method: str, peft_folder: Path, cache: Path) -> dict[str, Any]:
    """Run the battery once, in a process of its own, and return what every test did."""
    outcomes = cache / f"{method}.json"
    outcomes.unlink(missing_ok=True)
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(cache / "hub"),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    command = [sys.executable, "-m", "pytest", "-c", str(Path(__file__).with_name("pytest.ini"))]
    command += ["--rootdir", str(peft_folder), "-p", "benchmarks.conformance.plugin"]
    command += ["--method", method, "--outcomes", str(outcomes), *(f"tests/{name}" for name in FILES)]
    print(f"PEFT's tests with {method}:", flush=True)
    subprocess.run(command, cwd=peft_folder, env=environment, check=False)
    if not outcomes.exists():
        raise SystemExit(f"pytest ended before the battery with {method} was done; its output above says why.")
    return json.loads(outcomes.read_text(encoding="utf-8"))


def _require_whole_list(peft_folder: Path) -> None:
    """A release of PEFT with other test files needs a look at ``battery``, not silence."""
    present = {path.name for path in (peft_folder / "tests").glob("test_*.py")}
    listed = {*FILES, *LEFT_OUT_FILES}
    if present != listed:
        raise SystemExit(
            f"This PEFT has test files that battery.py does not list: {sorted(present - listed)}, or lacks some that "
            f"it does: {sorted(listed - present)}; list each as run or left out."
        )


def _write(path: Path, result: Comparison, pruning: dict[str, int], seconds: float) -> None:
    packages = ("roselora", "peft", "transformers", "torch", "accelerate", "diffusers")
    facts = {
        "command": "python -m benchmarks.conformance.run",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "seconds": round(seconds),
        "pruning": pruning,
        **result.as_json(),
        "left_out": LEFT_OUT_FILES,
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _report(result: Comparison, pruning: dict[str, int]) -> None:
    print("\n" + table(result) + "\n")
    print("With RoseLoraConfig: " + ", ".join(f"{count.replace('_', ' ')} {n}" for count, n in pruning.items()))
    for sentence, number in result.refusals.most_common():
        print(f"refused {number} times: {sentence}")
    for difference in result.differences:
        print(f"differs: {difference.test}\n    {difference.why}\n    reason: {difference.reason or 'NONE'}")
    print(f"{len(result.failed_in_both)} tests fail with both.")


if __name__ == "__main__":
    sys.exit(main())
